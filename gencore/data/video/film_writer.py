"""Films written to files: animated GIF by Pillow, MP4 and lossless Matroska by PyAV."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.data.images.grid import enlarge, image_grid, shown_levels
from gencore.data.names import FILM_SUFFIXES
from gencore.extras import data_extra

if TYPE_CHECKING:
    from av import VideoStream

__all__ = ["save_film"]

# Suffix → encoder, its options, and its formats of grey and of coloured pixels.
_ENCODERS = {
    ".mp4": ("libx264", {"crf": "15", "preset": "medium"}, ("yuv420p", "yuv420p")),
    ".mkv": ("ffv1", {}, ("gray", "bgr0")),
}


def save_film(
    frames: Tensor | Iterable[Tensor],
    path: str | Path,
    *,
    frames_per_second: float = 8,
    scale: int = 1,
    columns: int | None = None,
    show_progress: bool = True,
) -> None:
    """Write frames as a film, of the kind that the path's suffix says.

    | suffix | what it is |
    |---|---|
    | `.gif` | plays anywhere; grey levels are exact, colours are the 256 that suit a frame |
    | `.mp4` | H.264, small; with loss. A side of an odd number of pixels is one pixel longer |
    | `.mkv` | FFV1, without loss: `load_video` reads the levels back that were written |

    Frames are taken one by one, so that an iterable of any length needs the memory of one; only a
    GIF is kept whole. The file takes the path's place when it is complete; after an error the old
    one, if there was one, is as it was. On a terminal a bar shows how far it is.

    Args:
        frames: A clip [T, C, H, W], or frames [C, H, W] one after another; or clips [N, T, C, H, W]
            that play side by side. C = 1 or 3; uint8, or floating point in [0, 1], where values
            outside are clipped and NaN shows grey.
        path: The file.
        frames_per_second: A GIF has whole hundredths of a second, of which this takes the nearest.
        scale: Whole factor by which pixels are enlarged.
        columns: Clips in a row where several play; the smallest square that holds all by default.
        show_progress: Whether to show the bar.

    Raises:
        ModuleNotFoundError: Pillow (GIF), av (others) or rich (the bar) is not installed.
        OSError: the file cannot be written.
        ValueError: the suffix is another; there is no frame; frames differ in shape, or are none.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from gencore.data import load_video
        >>> clip = torch.randint(256, (5, 3, 16, 24), dtype=torch.uint8)
        >>> with TemporaryDirectory() as folder:
        ...     save_film(clip, Path(folder, "clip.mkv"))
        ...     same = load_video(Path(folder, "clip.mkv"), clip_length=5, split=None)[0]
        >>> torch.equal(clip, same)
        True
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise ValueError(f"save_film: {path} ends in none of {' '.join(FILM_SUFFIXES)}")
    if scale < 1 or not 0 < frames_per_second <= 1000:
        raise ValueError(
            f"save_film: scale = {scale} and frames_per_second = {frames_per_second}, expected at "
            "least 1, and more than 0 and at most 1000"
        )
    total = None
    if isinstance(frames, Tensor):
        total = frames.shape[1] if frames.ndim == 5 else len(frames)
        if frames.ndim == 5 and len(frames) > 0:
            clips = frames
            frames = (image_grid(shown_levels(clips[:, t]), columns=columns) for t in range(total))
    shown = _checked(frames, scale)
    first = next(shown, None)
    if first is None:
        raise ValueError(f"save_film: there is no frame to write to {path}")
    with replacing(path) as temporary, _progress(path.name, total, show_progress) as counted:
        pictures = iter(counted(chain([first], shown)))
        if suffix == ".gif":
            _write_gif(pictures, temporary, frames_per_second)
        else:
            _encode(pictures, temporary, suffix, first.shape, frames_per_second)


def _checked(frames: Iterable[Tensor], scale: int) -> Iterator[np.ndarray]:
    """Levels of each frame, [H, W] or [H, W, 3]; frames have to be alike."""
    shape = None
    for number, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[0] not in (1, 3) or 0 in frame.shape:
            raise ValueError(
                f"save_film: frame {number} has shape {tuple(frame.shape)}, expected [C, H, W], "
                "not empty, with C = 1 or 3"
            )
        if not (frame.is_floating_point() or frame.dtype == torch.uint8):
            raise ValueError(
                f"save_film: frame {number} is {frame.dtype}, expected uint8 or floating point"
            )
        shape = frame.shape if shape is None else shape
        if frame.shape != shape:
            raise ValueError(
                f"save_film: frame {number} has shape {tuple(frame.shape)}, the first "
                f"{tuple(shape)}: all frames have to be alike"
            )
        pixels = enlarge(shown_levels(frame), scale)
        array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        yield array.contiguous().numpy()


def _write_gif(pictures: Iterator[np.ndarray], path: Path, rate: float) -> None:
    with data_extra("save_film"):
        from PIL import Image

    images = map(Image.fromarray, pictures)
    # Hundredths are what the format has, and players take less than two for ten.
    duration = 10 * max(round(100 / rate), 2)
    next(images).save(
        path, format="GIF", save_all=True, append_images=images, duration=duration, loop=0
    )


def _encode(
    pictures: Iterator[np.ndarray], path: Path, suffix: str, shape: tuple[int, ...], rate: float
) -> None:
    with data_extra("save_film"):
        import av

    codec, options, (grey, coloured) = _ENCODERS[suffix]
    height, width = shape[:2]
    down, right = (height % 2, width % 2) if suffix == ".mp4" else (0, 0)
    with av.open(str(path), "w") as container:
        whole_rate = Fraction(rate).limit_denominator(1001)
        stream = cast("VideoStream", container.add_stream(codec, whole_rate, options))
        stream.height, stream.width = height + down, width + right
        stream.pix_fmt = grey if len(shape) == 2 else coloured
        for picture in pictures:
            margins = [(0, down), (0, right), (0, 0)][: picture.ndim]
            padded = np.pad(picture, margins, mode="edge")
            kind = "gray" if picture.ndim == 2 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format=kind)))
        container.mux(stream.encode())


@contextmanager
def _progress(
    name: str, total: int | None, enabled: bool
) -> Iterator[Callable[[Iterator[np.ndarray]], Iterable[np.ndarray]]]:
    """Gives a function that shows a bar while it hands pictures on; it goes when they end."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda pictures: pictures
        return
    with data_extra("save_film"):
        from rich.console import Console
        from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield lambda pictures: bar.track(pictures, total=total, description=name)
