"""Films as a data set of clips, of which no more than one is in memory, and what loads it."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, get_args

from torch import Tensor

from gencore.choices import check_choice
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.shares import check_place, epoch_order
from gencore.data.splits import Split, split_block
from gencore.data.video.film import Film
from gencore.data.video.film_file import FilmFile
from gencore.data.video.frame_folder import FrameFolder, list_frames, natural_key

__all__ = ["ClipPlace", "VideoDataset", "load_video"]

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv",
    ".flv", ".ogv", ".y4m", ".gif",
)  # fmt: skip
"""Files that count as films in a folder; a file that is named may have any suffix."""


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


def load_video(
    source: str | Path | Sequence[str | Path],
    *,
    clip_length: int,
    stride: int | None = None,
    frame_step: int = 1,
    split: Split | None = "train",
    image_size: int | None = None,
    channels: int | None = None,
) -> VideoDataset:
    """Open films as a data set of clips.

    | `source` | what it is |
    |---|---|
    | a file | a film that PyAV reads: MP4, Matroska, WebM, AVI, MPEG, GIF, … |
    | a folder of image files | one film, its frames in natural order |
    | another folder | all films below it: files, and folders of image files |
    | a list | such files and folders |

    The last fifth of every film's frames is the test part and the rest trains (`split_block`), so
    that no frame is in both. Folders named `train` and `test` are the two parts instead, where a
    folder has both. Only the frames of the last clip are in memory, and only its film is open.

    Args:
        source: What to read, as above.
        clip_length: Frames in a clip, T.
        stride: Frames from the start of one clip to that of the next. Without it clips follow one
            another without overlap.
        frame_step: Frames from one frame of a clip to its next: 2 takes every other frame.
        split: The part to open; None takes all frames.
        image_size: Scale the shorter side to this many pixels (bilinear, antialiased) and cut out
            the central square. Without it frames keep their size.
        channels: Convert to 1 (grey) or 3 (RGB). Without it 1 if all films are grey, else 3.

    Raises:
        FileNotFoundError: a path does not exist.
        ModuleNotFoundError: av (files) or Pillow (folders of images) is not installed.
        ValueError: an argument is out of range; no film is found, or none is long enough; films
            differ in size; a film is damaged, cut short, or its frame rate varies. Damage inside a
            film shows when the clip is read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     for frame in range(20):
        ...         _ = Path(name, f"{frame}.pgm").write_bytes(b"P5 2 1 255 " + bytes([0, frame]))
        ...     clips = load_video(name, clip_length=3, stride=5, frame_step=2)
        ...     print(len(clips), clips.place(1).frames, clips[1][:, 0, 0, 1])
        3 range(5, 10, 2) tensor([5, 7, 9], dtype=torch.uint8)
    """
    if split is not None:
        check_choice("load_video", "split", split, get_args(Split))
    for name, value in (
        ("clip_length", clip_length),
        ("stride", stride),
        ("frame_step", frame_step),
        ("image_size", image_size),
    ):
        if value is not None and value < 1:
            raise ValueError(f"load_video: {name} = {value}, expected at least 1")
    stride = clip_length * frame_step if stride is None else stride
    if channels not in (None, 1, 3):
        raise ValueError(f"load_video: channels = {channels}, expected 1, 3 or None")

    paths = [source] if isinstance(source, str | Path) else list(source)
    if not paths:
        raise ValueError("load_video: the list of films is empty")
    films: list[Film] = []
    blocks: list[range] = []
    for given in paths:
        if given == "":
            raise ValueError("load_video: the source is an empty string")
        path = Path(os.path.expanduser(given))  # noqa: PTH111 - as load_images reads a path
        if not path.exists():
            raise FileNotFoundError(f"load_video: {path} does not exist")
        is_divided = all((path / part).is_dir() for part in get_args(Split))
        found = _find_films(path / split if is_divided and split is not None else path)
        for film in found:
            films.append(film)
            if split is None or is_divided:
                blocks.append(range(film.num_frames))
            else:
                blocks.append(split_block(film.num_frames, split))
    return VideoDataset(
        films,
        blocks,
        clip_length=clip_length,
        stride=stride,
        frame_step=frame_step,
        image_size=image_size,
        channels=channels,
        name=Path(paths[0]).resolve().stem if len(paths) == 1 else f"{len(paths)} sources",
    )


def _find_films(path: Path) -> list[Film]:
    """The films of one path, in natural order."""
    if not path.is_dir():
        return [FilmFile(path)]
    found: list[tuple[Path, bool]] = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(folder)
        film_files = [here / name for name in files if not name.startswith(".")]
        film_files = [file for file in film_files if file.suffix.lower() in VIDEO_SUFFIXES]
        found.extend((file, False) for file in film_files)
        if frames := list_frames(here):
            if film_files:
                raise ValueError(
                    f"load_video: {here} holds the film {film_files[0].name} and the image "
                    f"{frames[0].name}: put one of the two elsewhere"
                )
            found.append((here, True))
    if not found:
        raise ValueError(
            f"load_video: {path} holds no films ({' '.join(VIDEO_SUFFIXES)}) and no images"
        )
    found.sort(key=lambda item: [natural_key(part) for part in item[0].relative_to(path).parts])
    return [FrameFolder(place) if is_folder else FilmFile(place) for place, is_folder in found]
