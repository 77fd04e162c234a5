"""Normalizing flows on densities of the plane, by maximum likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.data.names import DensityName
from gencore.recipes.plane import PlaneRecipe
from gencore.train import OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.flows.toyflow_experiment import ToyFlowExperiment

__all__ = ["FlowName", "ToyFlowRecipe"]

FlowName = Literal[
    "nice",
    "realnvp",
    "maf",
    "iaf",
    "planar",
    "radial",
    "spline",
    "autoregressive_spline",
    "residual",
    "ffjord",
    "umnn",
]


@dataclass(kw_only=True)
class ToyFlowRecipe(PlaneRecipe, OptimisedRecipe):
    """Normalizing flows on the plane, each against a density that is known exactly.

    The objective of every model is the exact log-likelihood of the data. The defaults take about a
    minute on two CPU cores, of ffjord and umnn
    several.
    """

    density: DensityName = "two_moons"
    """The density that the data are drawn from."""

    model: FlowName = "realnvp"
    """The flow; realnvp is that on vectors, with affine couplings (CouplingFlow)."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points in one step, over all devices together."""

    num_layers: int = 8
    """Layers of the flow; of residual the energies, each of two steps; ffjord has none."""

    hidden_widths: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the networks inside, of all flows but planar and radial."""

    learning_rate: float = 2e-3
    """Learning rate of Adam, after the warm-up."""

    warmup_steps: int = 50
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_layers", "warmup_steps")
        self.check_widths("hidden_widths")

    def build(self, fabric: "Fabric", dataset: "Density") -> "ToyFlowExperiment":
        from gencore.recipes.flows.toyflow_experiment import ToyFlowExperiment

        return ToyFlowExperiment(self, fabric, dataset)
