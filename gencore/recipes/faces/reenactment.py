"""The first-order motion model, on frames of films."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.recipes.video.clips import ClipShape, PatchRecipe
from gencore.train import OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import VideoDataset
    from gencore.data.splits import Split
    from gencore.recipes.faces.reenactment_experiment import ReenactmentExperiment

__all__ = ["ReenactmentRecipe"]

# Frames of 256 pixels, ten points and Adam with β₁ = .5 as in Siarohin et al. 2019 on VoxCeleb; the
# thesis gives no settings. The batch and the number of steps are ours.
_SIAROHIN_2019: dict[str, Any] = {
    "frame_size": 256, "patch_size": 256, "num_points": 10, "batch_size": 40, "steps": 40_000,
    "learning_rate": 2e-4, "beta1": 0.5, "widths": (64, 128, 256, 512, 1024), "num_frames": 2,
}  # fmt: skip
_PRESETS = {"siarohin2019-voxceleb": _SIAROHIN_2019}


@dataclass(kw_only=True)
class ReenactmentRecipe(PatchRecipe, OptimisedRecipe):
    """Pictures that move as a film does, by key points that are found without labels.

    The first frame of a clip is posed as each of its others. A few hundred steps learn where the
    head of one speaker is.
    """

    presets = _PRESETS
    figure_samples = 4

    data: str = "carphone"
    """Films: a name such as "carphone" or "moving-shapes", or the path of a film, a folder of
    frames or a folder of films (see gencore list)."""

    frame_size: int | None = 64
    """Scale frames to this height and width; without it they keep their size."""

    patch_size: int = 64
    """Side of the patches that a step sees; that of the frames for whole ones."""

    stride: int | None = 2
    """Frames of a film from the start of one training clip to that of the next; without it clips do
    not overlap."""

    frame_step: int = 3
    """Frames from one frame of a clip to its next."""

    num_frames: int = 5
    """Frames in a clip: the source and those that drive it."""

    steps: int = 800
    """Optimisation steps of the whole run."""

    batch_size: int = 4
    """Clips in one step, over all devices together."""

    num_points: int = 10
    """Key points, K."""

    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the scales of all three hourglasses, from the finest on."""

    has_jacobians: bool = True
    """An affine map around each key point, and not a shift alone."""

    heatmap_variance: float = 10.0
    """Variance of the key points' heatmaps, in squared pixels."""

    equivariance_weight: float = 0.02
    """Weight of the key points' errors under maps of the plane, in pixels and of Jacobians."""

    max_shift: float = 6.0
    """Largest translation of those maps along each axis, in pixels."""

    max_angle: float = math.pi / 8
    """Largest rotation of those maps, in radians."""

    max_scale: float = 1.15
    """Largest growth by those maps, and the inverse of the smallest."""

    learning_rate: float = 1e-3
    """Learning rate of Adam, after the warm-up."""

    beta1: float = 0.5
    """Decay of Adam's average of gradients."""

    changeable = frozenset({"steps"})
    tunable = frozenset({
        "learning_rate", "beta1", "warmup_steps", "max_grad_norm", "ema_decay",
        "equivariance_weight", "max_shift", "max_angle", "max_scale", "min_motion",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_points", "heatmap_variance")
        self.check_not_negative("equivariance_weight", "max_shift", "max_angle")
        self.check_fraction("beta1")
        self.check_widths("widths")
        if self.num_frames < 2:
            raise ValueError(
                f"ReenactmentRecipe: num_frames is {self.num_frames}; expected at least 2"
            )
        if self.max_scale < 1:
            raise ValueError(
                f"ReenactmentRecipe: max_scale is {self.max_scale}; expected at least 1"
            )
        factor = 2 ** len(self.widths)
        if self.patch_size % factor:
            raise ValueError(
                f"ReenactmentRecipe: patch_size is {self.patch_size}; expected a multiple of "
                f"{factor}, for {len(self.widths)} widths"
            )
        if self.accumulate > 1:
            raise ValueError(
                f"ReenactmentRecipe: accumulate is {self.accumulate}, but the networks normalise "
                "over a batch, which its parts are not"
            )

    def clip_length(self, split: "Split") -> int:
        return self.num_frames

    def build(
        self, fabric: "Fabric", dataset: "VideoDataset | ClipShape"
    ) -> "ReenactmentExperiment":
        from gencore.recipes.faces.reenactment_experiment import ReenactmentExperiment

        return ReenactmentExperiment(self, fabric, dataset)
