"""The inverse autoregressive flow (Kingma et al. 2016)."""

import math
from collections.abc import Sequence

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.stacks import interleaved, stack
from gencore.nn.transforms import ActNorm, InverseAutoregressive, Permutation, Transform
from gencore.ops.mlp import ActivationName
from gencore.sizes import check_positive

__all__ = ["IAF", "iaf_layers"]


class IAF(Flow):
    r"""A flow whose samples take one pass of each layer's network, and densities D short steps.

    .. math:: x = e^{-a} \odot \big(g_1 \circ \rho \circ \dots \circ \rho \circ g_K(z) - b\big),
              \qquad g(z)_i = \sigma_i z_i + (1 - \sigma_i)\, m_i(z_{<i}), \quad
              \sigma_i = \mathrm{sigmoid}\big(s_i(z_{<i})\big)

    with the reversal ρ of the coordinates between layers. Gates only contract, so the data's scale
    and location are those of a :class:`~gencore.nn.ActNorm`, whose a and b the first batch sets
    such that, with the gates as they start, samples have the batch's mean and variance.

    Args:
        features: D, the numbers in a row of the data.
        num_layers: K.
        hidden_widths: of each layer's network, one to four hidden layers.
        activation: of the networks.
        gate_bias: s at the start.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference
        with Inverse Autoregressive Flow", 2016, Algorithm 1.

    Example:
        >>> import torch
        >>> from gencore.models import IAF
        >>> iaf = IAF(3, num_layers=2, hidden_widths=(16, 16))
        >>> iaf().rsample((5,)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 5,
        hidden_widths: Sequence[int] = (64, 64),
        activation: ActivationName = "relu",
        gate_bias: float = 2.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
    ) -> None:
        check_positive("IAF", num_layers=num_layers)
        steps = iaf_layers(
            features, num_layers, hidden_widths, activation=activation, context_size=context_size,
            gate_bias=gate_bias,
        )  # fmt: skip
        norm = ActNorm(features, std=(1 + math.exp(-gate_bias)) ** -num_layers)
        transform = stack([norm, *steps], reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)


def iaf_layers(
    features: int,
    num_layers: int,
    hidden_widths: Sequence[int],
    *,
    activation: ActivationName = "relu",
    context_size: int = 0,
    gate_bias: float = 2.0,
) -> list[Transform]:
    """Inverse autoregressive layers, from data to latents, with reversals between them."""
    return interleaved(
        num_layers,
        lambda _: InverseAutoregressive(
            features, hidden_widths, activation=activation, context_size=context_size,
            gate_bias=gate_bias,
        ),
        lambda: Permutation.reverse(features),
    )  # fmt: skip
