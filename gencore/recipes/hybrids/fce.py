"""Flow contrastive estimation on densities of the plane (Gao 2021, §4.2.4.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.data.names import DensityName
from gencore.recipes.hybrids.flow_game import FlowGameRecipe
from gencore.recipes.plane import PlaneRecipe
from gencore.train import used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.hybrids.fce_experiment import FCEExperiment

__all__ = ["FCERecipe"]

# Gao 2021, §4.2.4: constant rates of Adam and Adamax. The steps and the batch are ours, as are the
# warm-up and the cap, without which the thesis' schedule can run away.
_GAO_2021 = {
    f"gao2021-{name}": {
        "density": density, "num_layers": 10, "hidden_widths": (64, 64),
        "energy_widths": (64, 64, 64), "learning_rate": 3e-4, "flow_learning_rate": 1e-5,
        "schedule": "constant", "steps": 20_000, "flow_warmup_steps": 2000,
        "density_warmup_steps": 500,
    }
    for name, density in (
        ("eight-gaussians", "eight_gaussians"),
        ("two-spirals", "two_spirals"),
        ("checkerboard", "checkerboard"),
    )
}  # fmt: skip


_GAME = used_by(objective=("fce",))
_FLOW = used_by(objective=("fce", "mle"))
_ENERGY = used_by(objective=("fce", "nce"))
_USED_BY = {
    "flow_learning_rate": _GAME,
    "flow_warmup_steps": _GAME,
    "density_warmup_steps": _GAME,
    "cap": _GAME,
    "flow_warmup_learning_rate": _FLOW,
    "num_layers": _FLOW,
    "hidden_widths": _FLOW,
    "learning_rate": _ENERGY,
    "energy_widths": _ENERGY,
}


@dataclass(kw_only=True)
class FCERecipe(FlowGameRecipe, PlaneRecipe):
    """Flow contrastive estimation on the plane: an energy and a flow learn from one another.

    The energy's log Z is learned, and no chains are run. For comparison the energy can learn from
    Gaussian noise, or the flow by its likelihood alone.
    """

    presets = _GAO_2021

    density: DensityName = "eight_gaussians"
    """The density that the data are drawn from."""

    objective: Literal["fce", "nce", "mle"] = "fce"
    """An energy and a flow in a game; an energy against Gaussian noise with the data's moments; or
    a flow by maximum likelihood."""

    steps: int = 4000
    """Updates of the whole run, of either player."""

    batch_size: int = 256
    """Data points in one step, and as many samples, over all devices together."""

    num_layers: int = 10
    """Affine couplings of the flow."""

    hidden_widths: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the couplings' networks."""

    energy_widths: tuple[int, ...] = (64, 64, 64)
    """Widths of the hidden layers of the energy, a perceptron."""

    activation: Literal["relu", "leaky_relu", "silu", "tanh"] = "relu"
    """Of the energy and of the couplings' networks."""

    used_by = _USED_BY

    tunable = frozenset({"learning_rate", "flow_learning_rate", "cap", "max_nll", "max_grad_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_layers")
        self.check_widths("hidden_widths")
        self.check_widths("energy_widths")

    @property
    def is_game(self) -> bool:
        return self.objective == "fce"

    @property
    def likelihood_steps(self) -> int:
        return {"fce": self.flow_warmup_steps, "nce": 0, "mle": self.steps}[self.objective]

    @property
    def density_steps(self) -> int:
        return self.steps if self.objective == "nce" else self.density_warmup_steps

    def build(self, fabric: "Fabric", dataset: "Density") -> "FCEExperiment":
        from gencore.recipes.hybrids.fce_experiment import FCEExperiment

        return FCEExperiment(self, fabric, dataset)
