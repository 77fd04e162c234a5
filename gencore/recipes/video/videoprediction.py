"""Multi-scale prediction of frames, by pixel losses and a game (Mathieu 2017, chapter 4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.objectives.weight_schedule import WeightSchedule
from gencore.recipes.video.clips import ClipShape, PatchRecipe
from gencore.train import OptimisedRecipe, UsedBy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import VideoDataset
    from gencore.data.splits import Split
    from gencore.recipes.video.videoprediction_experiment import VideoPredictionExperiment

__all__ = ["VideoPredictionRecipe"]

# Section 4.3.1: SGD, minibatches of 4 or 8, a learning rate that starts at 0.04 and is reduced to
# 0.005, 0.02 for the discriminator. How it is reduced, how long, and how much motion a patch has to
# show is not told; those are ours.
_MODEL_1 = {
    "width": 1.0, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.04, "schedule": "linear",
    "final_learning_rate": 0.005, "steps": 100_000, "min_motion": 0.05, "max_grad_norm": None,
    "num_scales": 4, "p": 1, "alpha": 1, "lp_weight": 1.0, "gdl_weight": 0.0,
    "adversarial_weight": 0.0,
}  # fmt: skip
_ADVERSARIAL = {"adversarial_weight": 0.05, "discriminator_learning_rate": 0.02}
# Model 2: patches of 64 pixels, Adam, minibatches of 16 and the adversarial loss alone.
_MODEL_2 = {
    "width": 1.0, "batch_size": 16, "optimizer": "adam", "learning_rate": 2e-4,
    "discriminator_learning_rate": 2e-4, "steps": 100_000, "min_motion": 0.05,
    "max_grad_norm": None, "patch_size": 64, "num_scales": 5, "batch_norm": True, "noise_std": 1.0,
    "separate_frames": True, "lp_weight": 0.0, "gdl_weight": 0.0, "adversarial_weight": 1.0,
}  # fmt: skip
# The rows of Table 4.3, and the two models.
_MATHIEU_2017: dict[str, dict[str, Any]] = {
    "mathieu2017-single-l2": {**_MODEL_1, "num_scales": 1, "p": 2},
    "mathieu2017-l2": {**_MODEL_1, "p": 2},
    "mathieu2017-l1": _MODEL_1,
    "mathieu2017-gdl": {**_MODEL_1, "gdl_weight": 1.0},
    "mathieu2017-adversarial": {**_MODEL_1, **_ADVERSARIAL},
    "mathieu2017-model1": {**_MODEL_1, "gdl_weight": 1.0, **_ADVERSARIAL},
    "mathieu2017-model2": _MODEL_2,
}

_USED_BY = {
    name: UsedBy("an adversarial_weight above 0", lambda fields: fields["adversarial_weight"] > 0)
    for name in ("discriminator_learning_rate", "separate_frames")
} | {
    "alpha": UsedBy(
        "a gradient difference loss (gdl_weight)",
        lambda fields: fields["gdl_weight"] > 0 or any(fields["gdl_values"]),
    ),
    "final_learning_rate": UsedBy(
        "a schedule other than constant", lambda fields: fields["schedule"] != "constant"
    ),
}


@dataclass(kw_only=True)
class VideoPredictionRecipe(PatchRecipe, OptimisedRecipe):
    """Multi-scale prediction of the next frame: L1 or L2, gradient difference, and a game.

    The defaults are a narrow Model 1, a few minutes on two CPU cores. The presets are the rows of
    Table 4.3 and the two models of Mathieu 2017, in full width; give them films with --data.
    """

    presets = _MATHIEU_2017
    used_by = _USED_BY
    figure_samples = 8

    steps: int = 1000
    """Optimisation steps of the whole run, each of the discriminator and then of the generator."""

    batch_size: int = 8
    """Clips in one step, over all devices together."""

    num_inputs: int = 4
    """Frames that the next one is predicted from."""

    num_predicted: int = 2
    """Frames that are predicted, one from another, where the model is measured and shown."""

    num_scales: int = 4
    """Scales, each of half the side of the next; 1 is the baseline without a coarser guess."""

    width: float = 0.125
    """Factor of the widths of the paper's layers."""

    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    """How a scale's guess reaches the size of the next: bilinear (thesis) or nearest (program)."""

    batch_norm: bool = False
    """Normalise over the batch in both networks, as Model 2 does."""

    noise_std: float = 0.0
    """Standard deviation of noise on the middle features of each scale's generator."""

    separate_frames: bool = False
    """The discriminator's first layer sees each frame by itself, as in Model 2."""

    p: Literal[1, 2] = 1
    """Exponent of the pixels' loss, of weight lp_weight: L1 or L2."""

    alpha: int = 1
    """Exponent of the gradient difference loss, of weight gdl_weight."""

    lp_weight: float = 1.0
    """Weight of the pixels' loss."""

    lp_steps: tuple[int, ...] = ()
    """Numbers of done steps, 1 or more, from which on lp_weight is that of lp_values."""

    lp_values: tuple[float, ...] = ()
    """The values of lp_weight from lp_steps on."""

    gdl_weight: float = 1.0
    """Weight of the gradient difference loss."""

    gdl_steps: tuple[int, ...] = ()
    """Numbers of done steps, 1 or more, from which on gdl_weight is that of gdl_values."""

    gdl_values: tuple[float, ...] = ()
    """The values of gdl_weight from gdl_steps on."""

    adversarial_weight: float = 0.05
    """Weight of the adversarial loss; with 0 there is no discriminator."""

    sums: bool = False
    """Sum losses over pixels and batch, as the thesis writes them, instead of taking means, which
    its weights and learning rates belong to."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """The optimiser of both networks."""

    learning_rate: float = 1e-3
    """Learning rate of the generator, after the warm-up."""

    final_learning_rate: float = 0.0
    """Learning rate of the generator that the schedule ends at."""

    discriminator_learning_rate: float = 2e-4
    """Learning rate of the discriminator."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    changeable = frozenset({"steps", "num_predicted"})
    tunable = frozenset({
        "learning_rate", "final_learning_rate", "discriminator_learning_rate", "warmup_steps",
        "max_grad_norm", "ema_decay", "p", "alpha", "lp_weight", "lp_steps", "lp_values",
        "gdl_weight", "gdl_steps", "gdl_values", "sums", "min_motion",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "num_inputs", "num_predicted", "num_scales", "width", "alpha",
            "discriminator_learning_rate",
        )  # fmt: skip
        self.check_not_negative(
            "noise_std", "adversarial_weight", "lp_weight", "gdl_weight", "final_learning_rate"
        )
        divisor = 2 ** (self.num_scales - 1)
        least = 4 * divisor if self.adversarial_weight else divisor
        if self.patch_size % divisor or self.patch_size < least:
            raise ValueError(
                f"VideoPredictionRecipe: patch_size is {self.patch_size}; expected a multiple of "
                f"{divisor} that is at least {least}, for {self.num_scales} scales"
            )
        if self.batch_norm and self.accumulate > 1:
            raise ValueError(
                f"VideoPredictionRecipe: accumulate is {self.accumulate}, but batch_norm "
                "normalises over a batch, which its parts are not"
            )
        try:
            self.weight("lp")
            self.weight("gdl")
        except ValueError as error:
            raise ValueError(
                "VideoPredictionRecipe: a weight does not fit its further steps and values: "
                f"{error}"
            ) from error

    def weight(self, name: Literal["lp", "gdl"]) -> WeightSchedule:
        """The weight of a loss, step by step."""
        initial, steps, values = (
            getattr(self, f"{name}_{part}") for part in ("weight", "steps", "values")
        )
        return WeightSchedule(initial, tuple(steps), tuple(values))

    def clip_length(self, split: "Split") -> int:
        return self.num_inputs + (1 if split == "train" else self.num_predicted)

    def build(
        self, fabric: "Fabric", dataset: "VideoDataset | ClipShape"
    ) -> "VideoPredictionExperiment":
        from gencore.recipes.video.videoprediction_experiment import VideoPredictionExperiment

        return VideoPredictionExperiment(self, fabric, dataset)
