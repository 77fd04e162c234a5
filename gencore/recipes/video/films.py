"""Recipes whose data are clips of films: where the films come from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencore.train import Recipe

if TYPE_CHECKING:
    from gencore.data import VideoDataset
    from gencore.data.splits import Split

__all__ = ["FilmRecipe"]


@dataclass(kw_only=True)
class FilmRecipe(Recipe):
    """A recipe whose data are clips of films, or clips that are made on the fly."""

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
