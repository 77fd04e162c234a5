"""Films from their first frame, by a dynamic generator that an encoder starts (Gao 2021, §3.3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.state_space import StateSpaceRecipe
from gencore.recipes.video.whole_clips import ClipTable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.recipes.video.imagetovideo_experiment import ImageToVideoExperiment

__all__ = ["ImageToVideoRecipe"]

# §3.3, "Learn to animate static image", tells the sizes; frames, steps and rates are those of its
# other experiments, and the emission network is ours.
_GAO_2021: dict[str, dict[str, Any]] = {
    "gao2021": {
        "frame_size": 64, "num_frames": 31, "encoder_width": 64, "state_size": 80,
        "appearance_size": 100, "noise_size": 20, "width": 64, "reduction": "mean",
        "noise_std": 1.0, "langevin_steps": 15, "steps": 3000,
    },
}  # fmt: skip


@dataclass(kw_only=True)
class ImageToVideoRecipe(StateSpaceRecipe):
    """Films from one image: an encoder gives a dynamic generator its first state and appearance.

    Each step moves the noise of its clips on by Langevin dynamics, from where it stands, and then
    the weights of encoder and generator. The defaults learn from clips of the first part of a
    talking head, of which --stride 3 makes more, and are measured on the clips of the rest.
    """

    presets = _GAO_2021
    figure_samples = 4

    num_frames: int = 9
    """Frames of a clip, of which the first is given."""

    num_clips: int | None = None
    """Train on the first clips of the films alone; without it on all."""

    appearance_size: int = 20
    """Numbers of what an image looks like; 0 for none."""

    encoder_width: int = 16
    """Channels of the encoder's first convolution; the next have two and four times as many."""

    tried_films: int = 10
    """Films of a held-out image that are drawn to find the one nearest to what happened."""

    steps: int = 1500
    """Optimisation steps of the whole run."""

    batch_size: int = 8
    """Clips in one step, over all devices together."""

    changeable = frozenset({"steps", "tried_films"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("encoder_width", "tried_films")
        if self.num_frames < 2:
            raise ValueError(
                f"ImageToVideoRecipe: num_frames is {self.num_frames}; expected 2 or more, of "
                "which the first is given"
            )

    def build(self, fabric: "Fabric", dataset: "ClipTable | ClipShape") -> "ImageToVideoExperiment":
        from gencore.recipes.video.imagetovideo_experiment import ImageToVideoExperiment

        return ImageToVideoExperiment(self, fabric, dataset)
