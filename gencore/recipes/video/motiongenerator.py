"""The motion-based dynamic generator, learned by chains over latents (Gao 2021, section 3.4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.whole_clips import ClipTable, WholeClipRecipe
from gencore.train import OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.recipes.video.motiongenerator_experiment import MotionGeneratorExperiment

__all__ = ["MotionGeneratorRecipe"]

# Figure 3.4.2: one clip a model, the smoothness penalty at 0.005, and these preferences for motion.
# 15 Langevin steps and 60 frames of 64×64 are those of the dynamic generator's experiments.
_GAO_2021: dict[str, dict[str, Any]] = {
    f"gao2021-lambda{weight:g}": {
        "frame_size": 64, "num_frames": 60, "width": 64, "langevin_steps": 15, "steps": 3000,
        "learning_rate": 2e-3, "residual_weight": weight, "roughness_weight": 0.005,
    }
    for weight in (0.5, 1.0, 2.0, 5.0)
}  # fmt: skip


@dataclass(kw_only=True)
class MotionGeneratorRecipe(WholeClipRecipe, OptimisedRecipe):
    """Motion-based dynamic generators: a clip is a first image that moves, and residuals.

    Each step runs Langevin chains over the latents of its clips, from where they stand, and moves
    the weights. The defaults take about a minute on one CPU core. The presets are the preferences
    of figure 3.4.2, for a clip given with --data; what the thesis does not tell of them is ours.
    """

    presets = _GAO_2021
    figure_samples = 4
    changeable = frozenset({"steps", "transfer"})
    tunable = frozenset({"learning_rate", "langevin_steps", "step_std"})

    data: str = "drifting-textures"
    """Films: a name such as "drifting-textures" or "carphone", or the path of a film, a folder of
    frames or a folder of films (see gencore list)."""

    num_frames: int = 16
    """Frames of a clip."""

    batch_size: int = 1
    """Clips in one step, over all devices together."""

    steps: int = 300
    """Optimisation steps of the whole run."""

    learning_rate: float = 3e-3
    """Learning rate of Adam on the weights, after the warm-up."""

    motion_size: int = 10
    """Numbers of the state that make the motion."""

    residual_size: int = 10
    """Numbers of the state that make the residuals."""

    noise_size: int = 10
    """Numbers of the noise that drives the state from frame to frame."""

    appearance_size: int = 10
    """Numbers of the latent of the first image."""

    motion_code_size: int = 0
    """Numbers of a sequence's own code of its motion; 0 for none."""

    residual_code_size: int = 0
    """Numbers of a sequence's own code of its residuals; 0 for none."""

    width: int = 16
    """Channels of the finest hidden maps of the decoders."""

    max_displacement: float = 3.0
    """Bound of a displacement from frame to frame along each axis, in pixels."""

    noise_std: float = 1.0
    """Standard deviation of the pixels' noise, for pixels in [-1, 1]."""

    residual_weight: float = 1.0
    """Weight of the residuals' penalty: the preference for explaining a clip by motion."""

    residual_form: Literal["norm", "square"] = "norm"
    """The residuals' penalty: their length, frame by frame, or its square."""

    roughness_weight: float = 0.005
    """Weight of the squared differences of neighbouring displacements."""

    langevin_steps: int = 5
    """Langevin steps on the latents in each step."""

    step_std: float = 0.03
    """Standard deviation of the noise of a Langevin step."""

    transfer: str | None = None
    """A picture that the figures move as the first clip moves: the path of an image, or
    "astronaut", "cat", "coffee" or "rocket" of scikit-image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "motion_size", "residual_size", "noise_size", "appearance_size", "width",
            "max_displacement", "noise_std", "langevin_steps", "step_std",
        )  # fmt: skip
        self.check_not_negative(
            "motion_code_size", "residual_code_size", "residual_weight", "roughness_weight"
        )

    def build(
        self, fabric: "Fabric", dataset: "ClipTable | ClipShape"
    ) -> "MotionGeneratorExperiment":
        from gencore.recipes.video.motiongenerator_experiment import MotionGeneratorExperiment

        return MotionGeneratorExperiment(self, fabric, dataset)
