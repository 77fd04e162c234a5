"""Recipes whose data are clips of films: where they come from, and what of them steps see."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gencore.train import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import VideoDataset
    from gencore.data.splits import Split
    from gencore.recipes.video.clip_batches import ClipBatches

__all__ = ["ClipRecipe", "ClipShape", "PatchRecipe"]


class ClipShape(NamedTuple):
    """What a run that only draws samples has of its training data."""

    shape: tuple[int, int, int, int]
    """[T, C, H, W] of a clip."""


@dataclass(kw_only=True)
class ClipRecipe(Recipe):
    """A recipe whose data are clips of films."""

    data: str = "moving-shapes"
    """Films: a name such as "moving-shapes" or "carphone", or the path of a film, a folder of
    frames or a folder of films (see gencore list)."""

    frame_size: int | None = None
    """Scale frames to this height and width; without it they keep their size."""

    frame_step: int = 1
    """Frames from one frame of a clip to its next."""

    stride: int | None = None
    """Frames of a film from the start of one training clip to that of the next; without it clips do
    not overlap."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("frame_step")
        for name in ("frame_size", "stride"):
            if getattr(self, name) is not None:
                self.check_positive(name)

    def clip_length(self, split: "Split") -> int:
        """Frames in a clip of training or of testing."""
        raise NotImplementedError

    def load_clips(self, split: "Split", channels: int | None = None) -> "VideoDataset":
        """The training or the test clips that `data` names; those of testing do not overlap."""
        from gencore.data import load_video

        return load_video(
            self.data,
            clip_length=self.clip_length(split),
            stride=self.stride if split == "train" else None,
            frame_step=self.frame_step,
            split=split,
            image_size=self.frame_size,
            channels=channels,
        )

    def described_data(self, description: Mapping[str, Any]) -> ClipShape:
        """The shape alone."""
        frames, channels, height, width = description["shape"]
        return ClipShape((frames, channels, height, width))


@dataclass(kw_only=True)
class PatchRecipe(ClipRecipe):
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
