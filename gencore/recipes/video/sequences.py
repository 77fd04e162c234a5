"""Recipes that learn a few whole clips, each with latents of its own."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gencore.recipes.video.films import FilmRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from gencore.data.splits import Split
    from gencore.train.batches import ImageBatches

__all__ = ["SequenceRecipe", "Sequences"]


class Sequences(NamedTuple):
    """Clips in memory, or on torch's meta device where a run only draws samples."""

    images: "Tensor"
    """uint8 [M, T, C, H, W]."""

    labels: None = None
    """Clips have no classes."""


@dataclass(kw_only=True)
class SequenceRecipe(FilmRecipe):
    """A recipe whose data are the first clips of films, whole and in memory."""

    num_frames: int = 16
    """Frames in a clip."""

    num_sequences: int = 1
    """Clips that are learned, the first of the data."""

    batch_size: int = 1
    """Clips in one step, over all devices together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_sequences")
        if self.num_frames < 2:
            raise ValueError(
                f"{type(self).__name__}: num_frames is {self.num_frames}; expected at least 2"
            )
        if self.batch_size > self.num_sequences:
            raise ValueError(
                f"{type(self).__name__}: batch_size is {self.batch_size}; expected at most the "
                f"{self.num_sequences} clips (num_sequences)"
            )

    def clip_length(self, split: "Split") -> int:
        return self.num_frames

    def load_data(self) -> Sequences:
        """The clips."""
        import torch

        clips = self.load_clips("train")
        if len(clips) < self.num_sequences:
            raise ValueError(
                f"{type(self).__name__}: num_sequences is {self.num_sequences}, but {clips} has "
                f"{len(clips)}: a shorter num_frames, or a stride, makes more"
            )
        return Sequences(torch.stack([clips[index] for index in range(self.num_sequences)]))

    def describe_data(self, dataset: Sequences) -> dict[str, Any]:
        """The clips' shape, and a hash of their pixels."""
        digest = hashlib.sha256(dataset.images.numpy().data)
        return {"fingerprint": digest.hexdigest(), "shape": list(dataset.images.shape)}

    def described_data(self, description: Mapping[str, Any]) -> Sequences:
        """The shape alone."""
        import torch

        return Sequences(torch.empty(description["shape"], dtype=torch.uint8, device="meta"))

    def batches(self, fabric: "Fabric", dataset: Sequences) -> "ImageBatches":
        """The clips of each step's batch, uint8 [B / ranks, T, C, H, W]."""
        from gencore.train.batches import ImageBatches

        return ImageBatches(dataset, self.batch_size, self.seed, fabric)
