"""Films as a data set of clips, of which no more than one is in memory."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.shares import check_place, epoch_order
from gencore.data.video.film import Film

__all__ = ["ClipPlace", "VideoDataset"]


class ClipPlace(NamedTuple):
    """Where a clip comes from."""

    film: int
    """Number of the film, as in `VideoDataset.films`."""

    frames: range
    """Numbers of its frames in the film."""


class VideoDataset:
    """Clips of equal length from films, read from disk when they are asked for.

    Clip j of a part that begins at frame b has the frames b + j·stride + t·frame_step for
    t = 0 … clip_length − 1; those of each film follow one another. `dataset[i]` is clip i, uint8
    [T, C, H, W]. It suits a `DataLoader`, whose workers open the films anew.

    Args:
        films: The films.
        blocks: The part of each that clips are taken from.
        clip_length: Frames in a clip, T.
        stride: Frames from the start of one clip to that of the next.
        frame_step: Frames from one frame of a clip to its next.
        image_size: Side of the square that frames are resized and cropped to.
        channels: 1 or 3; without it 1 if all films are grey, else 3.
        name: What plots and logs call it.

    Raises:
        ValueError: no film has enough frames for a clip, or films differ in size.
    """

    def __init__(
        self,
        films: Sequence[Film],
        blocks: Sequence[range],
        *,
        clip_length: int,
        stride: int,
        frame_step: int = 1,
        image_size: int | None = None,
        channels: int | None = None,
        name: str = "video",
    ) -> None:
        self.films, self.name = tuple(films), name
        self.clip_length, self.stride, self.frame_step = clip_length, stride, frame_step
        self.image_size = image_size
        self.channels = max(film.shape[0] for film in films) if channels is None else channels
        self._blocks = tuple(blocks)
        self._open_film = 0
        self._span = (clip_length - 1) * frame_step + 1
        counts = [max(0, (len(block) - self._span) // stride + 1) for block in blocks]
        self._ends = list(accumulate(counts))
        if self._ends[-1] == 0:
            raise ValueError(
                f"load_video: clips of {clip_length} frames with frame_step = {frame_step} need "
                f"{self._span} frames, but the longest part of {name} has {max(map(len, blocks))}"
            )
        for film in films:
            if image_size is None and film.shape[1:] != films[0].shape[1:]:
                (first_height, first_width), (height, width) = films[0].shape[1:], film.shape[1:]
                raise ValueError(
                    f"load_video: {film.path} has {width} x {height} pixels, but {films[0].path} "
                    f"has {first_width} x {first_height}: give image_size to make all alike"
                )

    def __len__(self) -> int:
        return self._ends[-1]

    def __repr__(self) -> str:
        shape = "x".join(str(side) for side in self.shape)
        starts = [0, *self._ends[:-1]]
        used = sum(start < end for start, end in zip(starts, self._ends, strict=True))
        films = f"{used} of {len(self.films)} films" if len(self.films) > 1 else "1 film"
        return f"VideoDataset({self.name}: {len(self)} clips of {shape} from {films})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[T, C, H, W] of a clip."""
        height, width = self.films[0].shape[1:]
        if self.image_size is not None:
            height = width = self.image_size
        return self.clip_length, self.channels, height, width

    def place(self, index: int) -> ClipPlace:
        """Tell the film and the frames of clip `index`; negative numbers count from the end.

        Raises:
            IndexError: there is no such clip.
        """
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        film = bisect_right(self._ends, number)
        first = number - (self._ends[film - 1] if film else 0)
        start = self._blocks[film].start + first * self.stride
        return ClipPlace(film, range(start, start + self._span, self.frame_step))

    def __getitem__(self, index: int) -> Tensor:
        film, frames = self.place(index)
        if film != self._open_film:
            self.films[self._open_film].close()
            self._open_film = film
        clip = self.films[film].read(frames)
        if self.image_size is not None:
            clip = resize_images(clip, self.image_size)
        return convert_channels(clip, self.channels)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def stream(
        self,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        seed: int | None = None,
        epoch: int = 0,
    ) -> Iterator[tuple[int, Tensor]]:
        """This process's share of all clips, each with its number.

        The clips of an epoch lie in a row, which is cut into `world_size` pieces whose lengths
        differ by at most one. Without a seed the row is in order, so that each process reads
        neighbouring clips and decodes a frame about once; with one it is shuffled, which a seek
        for every clip pays for.

        Args:
            rank: This process, by default of torch.distributed, or 0.
            world_size: Number of processes, by default of torch.distributed, or 1.
            seed: Of the shuffle.
            epoch: Number of the epoch, which shuffles anew.

        Raises:
            ValueError: not 0 ≤ rank < world_size.
        """
        rank, world_size = check_place("VideoDataset.stream", rank, world_size)
        order = epoch_order(len(self), seed, epoch)
        share = order[len(self) * rank // world_size : len(self) * (rank + 1) // world_size]
        return ((index, self[index]) for index in share.tolist())
