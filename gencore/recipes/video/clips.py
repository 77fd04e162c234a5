"""Recipes whose data are patches of clips of films, which are cut out anew for each step."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gencore.recipes.video.films import FilmRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import VideoDataset
    from gencore.recipes.video.clip_batches import ClipBatches

__all__ = ["ClipRecipe", "ClipShape"]


class ClipShape(NamedTuple):
    """What a run that only draws samples has of its training data."""

    shape: tuple[int, int, int, int]
    """[T, C, H, W] of a clip."""


@dataclass(kw_only=True)
class ClipRecipe(FilmRecipe):
    """A recipe whose data are patches of clips, which are read when a step needs them."""

    patch_size: int = 32
    """Side of the patches that a step sees; each is cut out of its clip anew."""

    min_motion: float = 0.0
    """Motion that a patch has to show, if its clip has a place with as much: the root mean square
    of the difference of neighbouring frames, from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("patch_size")
        self.check_fraction("min_motion")

    def load_data(self) -> "VideoDataset":
        """The training clips."""
        dataset = self.load_clips("train")
        height, width = dataset.shape[2:]
        if self.patch_size > min(height, width):
            raise ValueError(
                f"{type(self).__name__}: patch_size is {self.patch_size}; expected at most the "
                f"sides of the frames, {height} x {width}"
            )
        return dataset

    def describe_data(self, dataset: "VideoDataset") -> dict[str, Any]:
        """The clips' shape, and a fingerprint: a hash of their number and of the first and the
        last one, since reading all of them would take as long as an epoch."""
        digest = hashlib.sha256(repr((len(dataset), dataset.shape)).encode())
        for index in (0, len(dataset) - 1):
            digest.update(dataset[index].contiguous().numpy().data)
        return {"fingerprint": digest.hexdigest(), "shape": list(dataset.shape)}

    def described_data(self, description: Mapping[str, Any]) -> ClipShape:
        """The shape alone."""
        frames, channels, height, width = description["shape"]
        return ClipShape((frames, channels, height, width))

    def batches(self, fabric: "Fabric", dataset: "VideoDataset") -> "ClipBatches":
        """The patches of each step's batch, uint8 [B / ranks, T, C, S, S]."""
        from gencore.recipes.video.clip_batches import ClipBatches

        return ClipBatches(
            dataset,
            self.batch_size,
            patch_size=self.patch_size,
            min_motion=self.min_motion,
            seed=self.seed,
            fabric=fabric,
        )
