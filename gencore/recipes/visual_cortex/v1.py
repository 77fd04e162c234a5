"""V1's simple cells, on pairs of images of which the second one is moved."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.models.visual_cortex.names import MotionMatrices
from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.visual_cortex.v1_experiment import V1Experiment

__all__ = ["MovingPairs", "V1Recipe"]

MovingPairs = Literal["deformed", "flying"]

_USED_BY: dict[str, UsedBy] = {
    "displacement_step": used_by(matrices=("table",)),
    "mixing_radius": used_by(matrices=("table",)),
    "mixing_step": used_by(matrices=("table",)),
    "inference_steps": used_by(supervised=(False,)),
    "inference_rate": used_by(supervised=(False,)),
}
# Places365 is not here; photographs of 128 pixels and what moves into them.
_LARGE = {
    "image_size": 128, "num_blocks": 40, "block_size": 2, "patch_size": 16, "stride": 8,
    "max_displacement": 6.0, "learning_rate": 8e-4, "steps": 60_000, "band_pass": False,
}  # fmt: skip
_SMALL_FILTERS = {
    "image_size": 72, "margin": 4, "num_blocks": 40, "patch_size": 8, "stride": 4,
    "max_displacement": 6.0, "matrices": "taylor", "supervised": False, "pairs": "flying",
    "learning_rate": 8e-4, "steps": 60_000, "band_pass": False,
}  # fmt: skip
_GAO_2021: dict[str, dict[str, Any]] = {
    "gao2021-v1deform": _LARGE,
    "gao2021-band-pass": {**_LARGE, "band_pass": True},
    "gao2021-inference": {**_LARGE, "mixing_radius": 4, "mixing_step": 2},
    "gao2021-flying-objects": {
        **_LARGE, "pairs": "flying", "mixing_radius": 4, "mixing_step": 2,
    },
    "gao2021-unsupervised": _SMALL_FILTERS,
    **{
        f"gao2021-dimension-{size}": {**_LARGE, "block_size": size, "num_blocks": -(-80 // size)}
        for size in (4, 6, 8, 12)
    },
    "gao2021-stride-4": {**_LARGE, "stride": 4},
    "gao2021-stride-16": {**_LARGE, "stride": 16, "num_blocks": 128},
}  # fmt: skip


@dataclass(kw_only=True)
class V1Recipe(ImageRecipe, OptimisedRecipe):
    """V1 simple cells: filters as a tight frame, and matrices that rotate them as images move.

    A batch of images becomes pairs, by motions drawn anew in each step (unsupervised: one motion an
    image for the whole run, whose displacement the run infers and keeps). The defaults take about
    six minutes of one CPU core.
    """

    used_by = _USED_BY

    data: str = "photos"
    """Images: a name such as "photos", or the path of a folder, an array or shards (see gencore
    list). Cells see their grey levels."""

    image_size: int | None = 64
    """Scale images to this height and width, or cut patches of it; without it they keep theirs."""

    margin: int = 8
    """Pixels that are cut off each side of both images of a pair, into which moves what the first
    one does not show."""

    pairs: MovingPairs = "deformed"
    """How the second image differs: smooth deformation, or an object in front of a background,
    each with a translation, rotation and growth."""

    max_displacement: float = 3.0
    """Largest displacement along each axis in pixels."""

    band_pass: bool = True
    """Show cells the middle frequencies alone, a difference of Gaussians of 1 and 4 pixels."""

    num_blocks: int = 24
    """Sub-vectors of the code of a patch."""

    block_size: int = 2
    """Units of a sub-vector."""

    patch_size: int = 12
    """Side of a filter in pixels."""

    stride: int = 6
    """Pixels from patch to patch."""

    matrices: MotionMatrices = "table"
    """Motion: a matrix for each displacement of a lattice, a Taylor polynomial of second order, or
    rotations whose angle is linear in the displacement (of pairs alone)."""

    displacement_step: float = 0.5
    """Of the lattice of displacements, in pixels."""

    mixing_radius: int = 0
    """Reach of local mixing in pixels along each axis; 0 for none."""

    mixing_step: int = 2
    """Pixels between the places that are mixed."""

    reconstruction_weight: float = 1.0
    """Weight of the reconstruction loss beside the rotation loss."""

    supervised: bool = True
    """Learn from true displacements; otherwise from inferred ones, which needs matrices that are
    functions of the displacement."""

    smoothness: float = 0.1
    """Weight of the squared differences of displacements between neighbouring patches, where
    displacements are inferred by descent."""

    warping: float = 1.0
    """Weight of the squared error of the warped image there."""

    inference_steps: int = 10
    """Steps of that descent each time that a pair is seen."""

    inference_rate: float = 0.1
    """Its learning rate, in pixels."""

    steps: int = 4000
    """Optimisation steps of the whole run."""

    batch_size: int = 16
    """Pairs in one step, over all devices together."""

    learning_rate: float = 3e-3
    """Learning rate of Adam, after the warm-up."""

    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    changeable = frozenset({"steps"})
    tunable = frozenset(
        {
            "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "reconstruction_weight",
            "inference_steps", "inference_rate", "smoothness", "warping",
        }
    )  # fmt: skip
    presets = _GAO_2021

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "num_blocks", "block_size", "patch_size", "stride", "max_displacement",
            "displacement_step", "mixing_step", "inference_rate",
        )  # fmt: skip
        self.check_not_negative(
            "margin", "mixing_radius", "reconstruction_weight", "smoothness", "warping",
            "inference_steps",
        )  # fmt: skip
        if self.show_data:
            raise ValueError(
                "V1Recipe: show_data is True, but this recipe draws no samples; its figures show "
                "data"
            )
        if self.matrices == "table" and not self.supervised:
            raise ValueError(
                'V1Recipe: supervised is False and matrices is "table", but displacements are '
                'inferred by gradients, which a table has not: choose "taylor" or "rotation"'
            )
        if self.matrices == "rotation" and self.block_size != 2:
            raise ValueError(
                f'V1Recipe: matrices is "rotation" and block_size {self.block_size}; expected 2'
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "V1Experiment":
        from gencore.recipes.visual_cortex.v1_experiment import V1Experiment

        return V1Experiment(self, fabric, dataset)
