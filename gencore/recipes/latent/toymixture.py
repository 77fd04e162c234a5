"""Mixtures of Gaussians on densities of the plane, by expectation maximisation and gradients."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.data.names import DensityName
from gencore.models.latent.names import MixtureCovariance
from gencore.recipes.plane import PlaneRecipe
from gencore.train import OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.latent.toymixture_experiment import ToyMixtureExperiment

__all__ = ["ToyMixtureRecipe"]

_USED_BY: dict[str, UsedBy] = {"start_points": used_by(start=("em",))}


@dataclass(kw_only=True)
class ToyMixtureRecipe(PlaneRecipe, OptimisedRecipe):
    """Mixtures of Gaussians on the plane, by the likelihood, against a density known exactly.

    The defaults take a few seconds on two CPU cores.
    """

    used_by = _USED_BY

    density: DensityName = "two_moons"
    """The density that the data are drawn from."""

    components: int = 10
    """Gaussians in the mixture."""

    covariance: MixtureCovariance = "full"
    """Form of their covariances: of each component, or one for all (tied)."""

    start: Literal["em", "noise"] = "em"
    """Where gradients start: at the end of expectation maximisation, or at random means."""

    start_points: int = 2000
    """Points that expectation maximisation sees."""

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points in one step, over all devices together."""

    learning_rate: float = 3e-3
    """Learning rate of Adam, after the warm-up."""

    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("components", "start_points")
        if self.start == "em" and self.start_points < self.components:
            raise ValueError(
                f"ToyMixtureRecipe: start_points is {self.start_points}; expected at least one a "
                f"component, {self.components}"
            )

    def build(self, fabric: "Fabric", dataset: "Density") -> "ToyMixtureExperiment":
        from gencore.recipes.latent.toymixture_experiment import ToyMixtureExperiment

        return ToyMixtureExperiment(self, fabric, dataset)
