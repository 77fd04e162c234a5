"""Captions of synthetic scenes, with and without attention to regions (Lucas 2020, appendix B)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.models.language.names import RegionFeedback, RegionKind
from gencore.train import OptimisedRecipe, UsedBy, used_by
from gencore.train.recipe import Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import CaptionedScenes
    from gencore.data.splits import Split
    from gencore.recipes.language.captions_experiment import CaptionsExperiment
    from gencore.train import BatchSource

__all__ = ["CaptionsRecipe"]

_ATTENDING = used_by(regions=("grid", "transformer", "windows"))
_USED_BY: dict[str, UsedBy] = {"region_state": _ATTENDING, "feedback": _ATTENDING}


@dataclass(kw_only=True)
class CaptionsRecipe(OptimisedRecipe):
    """A captioner of synthetic scenes, which attends to regions of the image as it writes.

    Scenes have two shapes, and captions such as "a red disc above a blue square": no package brings
    captioned photographs. The defaults take a few minutes on two CPU cores.
    """

    used_by = _USED_BY

    num_scenes: int = 10_000
    """Scenes to train with; there are as many as are measured to test with."""

    image_size: int = 32
    """Pixels of a side, a multiple of 4."""

    regions: RegionKind = "grid"
    """What the captioner attends to: no regions (the baseline), the positions of the last map,
    regions that a spatial transformer moves, or windows of 2 and 3 positions."""

    region_state: bool = True
    """Let the state choose regions, by the interaction θ_rh."""

    feedback: RegionFeedback = "marginal"
    """What is seen and fed back to the state: regions by p(r | h), by p(r | w, h), or nothing."""

    channels: int = 16
    """Channels of the first convolutions, a multiple of 8; the last ones have twice as many."""

    feature_size: int = 128
    """Features of the image that start the state."""

    embedding_size: int = 64
    """Numbers of a word's vector."""

    hidden_size: int = 128
    """Numbers of the recurrent state."""

    beam_width: int = 5
    """Width of the beam search that writes the measured and shown captions; 1 is greedy."""

    steps: int = 1500
    """Optimisation steps of the whole run."""

    learning_rate: float = 2e-3
    """Learning rate of the optimiser, after the warm-up."""

    schedule: Schedule = "cosine"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    max_grad_norm: float | None = 5.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    changeable = frozenset({"steps", "beam_width"})
    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})
    figure_samples = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "num_scenes", "channels", "feature_size", "embedding_size", "hidden_size", "beam_width"
        )
        if self.channels % 8 or self.image_size % 4 or self.image_size < 16:
            raise ValueError(
                f"CaptionsRecipe: channels is {self.channels} and image_size is "
                f"{self.image_size}; expected a multiple of 8, and a multiple of 4 from 16 on"
            )

    def load_part(self, split: "Split", num_scenes: int) -> "CaptionedScenes":
        """Scenes of training or of testing."""
        from gencore.data import CaptionedScenes

        return CaptionedScenes(num_scenes, image_size=self.image_size, split=split)

    def load_data(self) -> "CaptionedScenes":
        """The training scenes."""
        return self.load_part("train", self.num_scenes)

    def describe_data(self, dataset: "CaptionedScenes") -> dict[str, Any]:
        """How many scenes there are: what they are follows from the options."""
        return {"scenes": len(dataset)}

    def described_data(self, description: Mapping[str, Any]) -> "CaptionedScenes":
        """One scene: that of a model is only that it has this size."""
        return self.load_part("train", 1)

    def batches(self, fabric: "Fabric", dataset: "CaptionedScenes") -> "BatchSource":
        """The pictures of each step's batch, uint8 [B / ranks, 3, S, S]."""
        from gencore.data import ImageDataset
        from gencore.train.batches import ImageBatches

        pictures = ImageDataset(dataset.images, None, "scenes")
        return ImageBatches(pictures, self.batch_size, self.seed, fabric)

    def build(self, fabric: "Fabric", dataset: "CaptionedScenes") -> "CaptionsExperiment":
        from gencore.recipes.language.captions_experiment import CaptionsExperiment

        return CaptionsExperiment(self, fabric, dataset)
