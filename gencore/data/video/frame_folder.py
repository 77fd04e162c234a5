"""A film as a folder of image files, one a frame."""

import re
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from gencore.data.images.decoding import IMAGE_SUFFIXES, decode_image
from gencore.data.images.pixels import convert_channels
from gencore.data.video.film import Film

__all__ = ["FrameFolder", "list_frames", "natural_key"]

# A GIF is a film itself.
_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".gif")


class FrameFolder(Film):
    """A folder of image files, in natural order: `frame2.png` comes before `frame10.png`.

    Hidden files and files with other suffixes are passed over; transparent pixels show white.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: there are no frames, or, when it is read, a frame cannot be decoded or differs
            in size or channels from the first.
    """

    def __init__(self, path: Path) -> None:
        self._files = list_frames(path)
        if not self._files:
            raise ValueError(f"{path} holds no frames ({' '.join(_SUFFIXES)})")
        first = _decode_file(self._files[0])
        super().__init__(path, len(self._files), (first.shape[0], first.shape[1], first.shape[2]))

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        for index in indices:
            file = self._files[index]
            frame = _decode_file(file)
            if self.shape[0] == 3:  # a frame in a film of colours may by chance be all grey
                frame = convert_channels(frame[None], 3)[0]
            if tuple(frame.shape) != self.shape:
                raise ValueError(
                    f"{file}: the frame has shape {tuple(frame.shape)}, but the first of the film "
                    f"has {self.shape} ([C, H, W]): all frames have to be alike"
                )
            yield frame


def list_frames(folder: Path) -> list[Path]:
    """The image files that lie in a folder itself, in natural order."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    frames = [path for path in files if path.suffix.lower() in _SUFFIXES and path.is_file()]
    return sorted(frames, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts the numbers in names by value.

    Example:
        >>> sorted(["b1", "a10", "a9", "a09"], key=natural_key)
        ['a09', 'a9', 'a10', 'b1']
    """
    words = re.split(r"([0-9]+)", name)
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words], name


def _decode_file(path: Path) -> Tensor:
    return decode_image(path, str(path), path.stat().st_size)
