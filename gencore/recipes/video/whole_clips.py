"""Recipes of models with latents for each clip, whose few clips are whole and in memory."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from gencore.recipes.video.clips import ClipRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from gencore.data.splits import Split
    from gencore.train.batches import ImageBatches

__all__ = ["ClipTable", "WholeClipRecipe"]


class ClipTable(NamedTuple):
    """All training clips."""

    images: "Tensor"
    """The clips, uint8 [M, T, C, H, W]."""
    labels: None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[T, C, H, W] of a clip."""
        num_frames, channels, height, width = self.images.shape[1:]
        return num_frames, channels, height, width


@dataclass(kw_only=True)
class WholeClipRecipe(ClipRecipe):
    """A recipe whose data are a few whole clips, each with latents of its own."""

    frame_size: int | None = 32
    """Scale frames to this height and width; without it they keep their size."""

    num_frames: int = 60
    """Frames of a clip."""

    num_clips: int | None = 1
    """Train on the first clips of the films alone; without it on all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_frames")
        if self.num_clips is not None:
            self.check_positive("num_clips")

    def clip_length(self, split: "Split") -> int:
        return self.num_frames

    def load_data(self) -> ClipTable:
        """The training clips."""
        import torch

        clips = self.load_clips("train")
        num = len(clips) if self.num_clips is None else self.num_clips
        if num > len(clips):
            raise ValueError(
                f"{type(self).__name__}: num_clips is {num}; expected at most {len(clips)}, the "
                f"clips of {self.num_frames} frames in {self.data}"
            )
        return ClipTable(torch.stack([clips[index] for index in range(num)]))

    def describe_data(self, dataset: ClipTable) -> dict[str, Any]:
        """The clips' shape, and a hash of all of them."""
        pixels = dataset.images.contiguous().numpy()
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(pixels.data)
        return {"fingerprint": digest.hexdigest(), "shape": list(dataset.shape)}

    def batches(self, fabric: "Fabric", dataset: ClipTable) -> "ImageBatches":
        """The clips of each step's batch, uint8 [B / ranks, T, C, H, W]."""
        from gencore.train.batches import ImageBatches

        # It asks for images and labels alone, and clips are rows as images are.
        return ImageBatches(cast(Any, dataset), self.batch_size, self.seed, fabric)
