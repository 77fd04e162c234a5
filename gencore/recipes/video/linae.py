"""Linearising auto-encoders, on triplets of images that move steadily."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from gencore.models.video.names import CurvatureOf, LinearizingArchitecture
from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.video.linae_experiment import LinAEExperiment

__all__ = ["LinAERecipe"]

_POOLED = ("shallow1", "shallow2", "deep3", "mlp")
_PREDICTING = tuple(name for name in get_args(LinearizingArchitecture) if name != "deep1")
_USED_BY: dict[str, UsedBy] = {
    "phase_pooling": used_by(architecture=_POOLED),
    "learned_predictor": used_by(architecture=_PREDICTING),
    **{
        name: used_by(architecture=_POOLED, phase_pooling=(True,))
        for name in ("beta", "learn_beta", "curvature_of")
    },
}
# Patches whose motion shows what is around them.
_PATCHES = {"data": "photos", "image_size": 48, "margin": 8}
# In place of NORB's toys, which turn: digits that turn, as fast as at 30° a frame.
_TURNING = {
    "data": "digits", "image_size": 32, "margin": 0,
    "max_shift": 4.0, "max_angle": math.pi / 2, "max_scale": 1.0,
}  # fmt: skip
_MATHIEU_2017: dict[str, dict[str, Any]] = {
    "mathieu2017-shallow1": {**_PATCHES, "architecture": "shallow1"},
    "mathieu2017-shallow2": {**_PATCHES, "architecture": "shallow2"},
    "mathieu2017-deep1": {**_TURNING, "architecture": "deep1", "curvature_weight": 0.0},
    "mathieu2017-deep2": {**_TURNING, "architecture": "deep2", "curvature_weight": 0.0},
    "mathieu2017-deep3": {**_TURNING, "architecture": "deep3"},
}


@dataclass(kw_only=True)
class LinAERecipe(ImageRecipe, OptimisedRecipe):
    """Linearising auto-encoders, which predict the third frame of a motion from the first two.

    Each image of a batch becomes the triplet of a motion that is drawn anew. The defaults take a
    few minutes on two CPU cores.
    """

    used_by = _USED_BY

    data: str = "photos"
    """Images: a name such as "digits" or "photos", or the path of a folder, an array or shards (see
    gencore list)."""

    image_size: int | None = 48
    """Scale images to this height and width, or cut patches of it; without it they keep theirs."""

    margin: int = 8
    """Pixels that are cut off each side of a frame: into them moves what the image does not show,
    which is the colour of its border. Frames have 2 · margin pixels less than images."""

    max_shift: float = 6.0
    """Largest translation along each axis in the triplet's time, three steps, in pixels."""

    max_angle: float = math.pi / 6
    """Largest rotation in that time, in radians."""

    max_scale: float = 1.25
    """Largest growth in that time, and the inverse of the smallest; 1 for none."""

    architecture: LinearizingArchitecture = "shallow1"
    """Networks and pools, those of the thesis's table 3.1 or fully connected ones."""

    width: float = 1.0
    """Factor on all numbers of maps and units."""

    phase_pooling: bool = True
    """Codes of magnitudes and phases; without it, codes are what the pools are over."""

    beta: float = 3.0
    """Factor in the softmax of phase pooling: 0 is the mean, large values are the maximum."""

    learn_beta: bool = False
    """Make the factor beta of phase pooling a parameter."""

    learned_predictor: bool = False
    """Learn the coefficients of the linear prediction in place of 2 and -1."""

    curvature_weight: float = 0.3
    """Weight of minus the cosine of the angle between the codes' two steps, beside half of the
    squared error, a sum over pixels."""

    curvature_of: CurvatureOf = "code"
    """The angle that curvature_weight weighs: of all phases as a vector, or the mean over pools."""

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 32
    """Triplets in one step, over all devices together."""

    changeable = frozenset({"steps"})
    tunable = frozenset(
        {"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "curvature_weight"}
    )
    presets = _MATHIEU_2017

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("width")
        self.check_not_negative("margin", "max_shift", "max_angle", "curvature_weight", "beta")
        if self.show_data:
            raise ValueError(
                "LinAERecipe: show_data is True, but this recipe draws no samples; its figures "
                "show data"
            )
        if self.max_scale < 1:
            raise ValueError(f"LinAERecipe: max_scale is {self.max_scale}; expected at least 1")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "LinAEExperiment":
        from gencore.recipes.video.linae_experiment import LinAEExperiment

        return LinAEExperiment(self, fabric, dataset)
