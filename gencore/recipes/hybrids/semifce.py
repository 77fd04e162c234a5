"""Semi-supervised flow contrastive estimation on the plane (Gao 2021, §4.2.3, §4.2.4.4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.data.names import DensityName
from gencore.recipes.hybrids.flow_game import FlowGameRecipe
from gencore.recipes.plane import PlaneRecipe
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.hybrids.semifce_experiment import SemiFCEExperiment

__all__ = ["SemiFCERecipe"]

_GAME = used_by(objective=("fce",))
_USED_BY = {
    "flow_learning_rate": _GAME,
    "flow_warmup_steps": _GAME,
    "flow_warmup_learning_rate": _GAME,
    "density_warmup_steps": _GAME,
    "cap": _GAME,
    "num_layers": _GAME,
    "hidden_widths": _GAME,
    "vat_radius": UsedBy("a positive vat_weight", lambda fields: fields["vat_weight"] > 0),
}


@dataclass(kw_only=True)
class SemiFCERecipe(FlowGameRecipe, PlaneRecipe):
    """Semi-supervised flow contrastive estimation: energies of classes from few labels.

    The components of the density are the classes. Labelled points are few and stay, unlabelled ones
    are fresh in each step.
    """

    density: DensityName = "two_spirals"
    """The density that the data are drawn from; its spots, curves, arms or squares are classes."""

    objective: Literal["fce", "nce", "supervised"] = "fce"
    """Labels and the game with a flow; labels and Gaussian noise with the data's moments; or labels
    alone."""

    labels_per_class: int = 7
    """Labelled points of each class."""

    label_weight: float = 1.0
    """Weight of the labels' cross-entropy (4.15) beside the value of the contrast."""

    vat_weight: float = 0.0
    """Weight of virtual adversarial training of the labels, on the unlabelled points."""

    vat_radius: float = 0.2
    """Length of its perturbations."""

    steps: int = 2000
    """Updates of the whole run, of either player."""

    batch_size: int = 256
    """Unlabelled points in one step, and as many samples, over all devices together."""

    num_layers: int = 10
    """Affine couplings of the flow."""

    hidden_widths: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the couplings' networks."""

    energy_widths: tuple[int, ...] = (64, 64, 64)
    """Widths of the layers that the energies of the classes share."""

    activation: Literal["relu", "leaky_relu", "silu", "tanh"] = "relu"
    """Of the energies and of the couplings' networks."""

    used_by = _USED_BY

    tunable = frozenset(
        {"learning_rate", "flow_learning_rate", "cap", "max_nll", "max_grad_norm", "label_weight"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_layers", "labels_per_class", "label_weight", "vat_radius")
        self.check_not_negative("vat_weight")
        self.check_widths("hidden_widths")
        self.check_widths("energy_widths")

    @property
    def is_game(self) -> bool:
        return self.objective == "fce"

    @property
    def likelihood_steps(self) -> int:
        return self.flow_warmup_steps if self.objective == "fce" else 0

    @property
    def density_steps(self) -> int:
        return self.density_warmup_steps if self.objective == "fce" else self.steps

    def build(self, fabric: "Fabric", dataset: "Density") -> "SemiFCEExperiment":
        from gencore.recipes.hybrids.semifce_experiment import SemiFCEExperiment

        return SemiFCEExperiment(self, fabric, dataset)
