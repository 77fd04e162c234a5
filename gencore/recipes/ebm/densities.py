"""Energies and their flows on densities of the plane (Yan 2022, §2.4.5)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.models.ebm.names import FlowObjective
from gencore.recipes.plane import PlaneRecipe
from gencore.train import OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.ebm.densities_experiment import DensitiesExperiment

__all__ = ["DensitiesRecipe"]

# Yan 2022, §2.4.6: the flow trained with the energies' objective, and by its own likelihood.
_SHARED = {
    "sampler": "ode", "hidden_widths": (256, 256, 256, 256), "time": 0.2, "tolerance": 1e-5,
    "steps": 3000, "batch_size": 800, "learning_rate": 1e-3,
}  # fmt: skip
_YAN_2022 = {
    f"yan2022-{name}{variant}": {"density": density, "objective": objective, **_SHARED}
    for name, density in (("swiss-roll", "swiss_roll"), ("grid9", "grid9"))
    for variant, objective in (("", "ml"), ("-flow-mle", "flow_mle"))
}


@dataclass(kw_only=True)
class DensitiesRecipe(PlaneRecipe, OptimisedRecipe):
    """Energies on the plane: which learns the data, exp(−E)/Z or the flow of the samples?

    The defaults take about two minutes on two CPU cores.
    """

    presets = _YAN_2022

    sampler: Literal["langevin", "ode", "euler"] = "euler"
    """From noise to samples: Langevin steps; the gradient flow without noise, exactly; or in Euler
    steps."""

    objective: FlowObjective = "ml"
    """The energies of data and samples; with the generator loss; or the likelihood of the flow."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points, and chains, in one step, over all devices together."""

    hidden_widths: tuple[int, ...] = (128, 128, 128)
    """Widths of the hidden layers of the energy, a perceptron with swish activations."""

    time: float = 0.2
    """Length T of the flow; the Euler and Langevin steps together have the same length."""

    chain_steps: int = 20
    """Number of Euler or Langevin steps."""

    tolerance: float = 1e-5
    """Relative and absolute tolerance of the ODE's solver."""

    trace: Literal["exact", "hutchinson"] = "exact"
    """How the ODE's density gets the trace of the Hessian."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of data and samples differ by more."""

    tunable = frozenset({"time", "chain_steps", "tolerance", "learning_rate", "max_gap"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("time", "chain_steps", "tolerance", "max_gap")
        self.check_widths("hidden_widths")
        if self.sampler == "langevin" and self.objective == "flow_mle":
            raise ValueError(
                "DensitiesRecipe: Langevin samples have no known density, so the sampler langevin "
                'excludes the objective flow_mle; choose "ode" or "euler"'
            )

    def build(self, fabric: "Fabric", dataset: "Density") -> "DensitiesExperiment":
        from gencore.recipes.ebm.densities_experiment import DensitiesExperiment

        return DensitiesExperiment(self, fabric, dataset)
