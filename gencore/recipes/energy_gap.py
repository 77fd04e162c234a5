"""The alarm of energies in training: their means at data and at samples drifted apart."""

from torch import Tensor

from gencore.models import DivergenceError, check_divergence
from gencore.train import Diverged

__all__ = ["check_energy_gap"]


def check_energy_gap(
    loss: Tensor, energy_data: Tensor, energy_samples: Tensor, *, max_gap: float, advice: str
) -> None:
    """Raise `Diverged` where `check_divergence` sees that training cannot go on.

    Args:
        loss, energy_data, energy_samples: scalars of a step.
        max_gap: largest difference of the two energies.
        advice: what the user can change.
    """
    try:
        check_divergence(loss, energy_data, energy_samples, max_gap=max_gap)
    except DivergenceError as error:
        raise Diverged(str(error), advice=advice) from error
