"""The five models of adaptive density estimation by name, without torch."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = ["ADE_MODELS", "ADEModel", "ADEModelName"]

ADEModelName = Literal["gan", "vae", "vade", "avgde", "avade"]


class ADEModel(NamedTuple):
    """A row of table 5.1: what a model is trained with."""

    features: bool
    """Whether there is a flow f_ψ; without it the Gaussian decoder gives the data themselves."""
    adversarial: bool
    """Whether a discriminator judges samples, L_Q."""
    coverage: bool
    """Whether the likelihood is maximised, L_C."""


ADE_MODELS: Mapping[ADEModelName, ADEModel] = {
    "gan": ADEModel(features=False, adversarial=True, coverage=False),
    "vae": ADEModel(features=False, adversarial=False, coverage=True),
    "vade": ADEModel(features=True, adversarial=False, coverage=True),
    "avgde": ADEModel(features=False, adversarial=True, coverage=True),
    "avade": ADEModel(features=True, adversarial=True, coverage=True),
}
"""The five models of table 5.1 of Lucas 2020."""
