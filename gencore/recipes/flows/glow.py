"""Multi-scale normalizing flows on images, by maximum likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.models.flows.names import CouplingKind
from gencore.recipes.levels import LevelsRecipe
from gencore.train import OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.flows.glow_experiment import GlowExperiment

__all__ = ["GlowRecipe"]


@dataclass(kw_only=True)
class GlowRecipe(LevelsRecipe, OptimisedRecipe):
    """Normalizing flow on images: Glow, or RealNVP, with bits/dim beside those of Gaussians.

    The defaults take a few minutes on digits, with two CPU cores.
    """

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images in one step, over all devices together."""

    model: Literal["glow", "realnvp"] = "glow"
    """The flow: Glow, or the multi-scale RealNVP."""

    num_levels: int | None = None
    """Scales, each of half the side of the one before; without it 2 below 16 pixels, else 3, or as
    many as divide the sides."""

    num_steps: int = 8
    """Steps of Glow at each scale; for RealNVP the residual blocks of each network."""

    hidden_channels: int = 64
    """Width of the couplings' networks; RealNVP doubles it at each further scale."""

    coupling: CouplingKind = "affine"
    """What a coupling of Glow does to the half that moves: scale and shift it, only shift it, or
    bend it by rational-quadratic splines."""

    bound: float = 2.0
    """Bound of the affine couplings' log-scales, at most 80."""

    num_bins: int = 4
    """Bins of each spline."""

    reversible: bool = False
    """Rebuild inputs in the backward pass, so that memory does not grow with the couplings."""

    class_conditional: bool = False
    """Condition every coupling on the image's class; the data need labels."""

    dequantization: Literal["uniform", "variational"] = "uniform"
    """Noise that makes grey levels real numbers: uniform, or normal given the image and learned."""

    optimizer: Literal["adam", "adamax"] = "adam"
    """Adam, or Adamax, its variant with the largest gradient in place of their mean square."""

    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float | None = 50.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws samples and is measured; less at first."""

    temperature: float = 0.7
    """Standard deviation of the latents of samples."""

    changeable = frozenset({"steps", "show_data", "temperature"})
    tunable = frozenset({"bound", "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "realnvp" and self.coupling != "affine":
            raise ValueError(
                f"GlowRecipe: coupling is {self.coupling!r}, but the model realnvp has affine ones"
            )
        if self.num_levels is not None:
            self.check_positive("num_levels")
        self.check_positive("num_steps", "hidden_channels", "bound", "num_bins", "warmup_steps")
        if self.ema_decay is None:
            raise ValueError("GlowRecipe: ema_decay is None; expected from 0 to 1")
        if self.model == "realnvp" and self.accumulate > 1:
            raise ValueError(
                f"GlowRecipe: accumulate is {self.accumulate}, but the model realnvp normalises "
                "over a batch, which its parts are not"
            )
        self.check_not_negative("temperature")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "GlowExperiment":
        from gencore.recipes.flows.glow_experiment import GlowExperiment

        return GlowExperiment(self, fabric, dataset)
