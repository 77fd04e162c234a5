"""Images whose pixels are kept bit for bit, as levels: read from files and written to them.

An image of L levels shows level l as the grey (or red, green or blue) value round(255·l/(L − 1)):
of 16 levels 0, 17, 34, …, 255, of 256 the values themselves. Files with other values do not have
these levels, and are refused, as is whatever else would be lost.
"""

import re
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.data.images.arrays import read_array_images
from gencore.data.images.decoding import decode_image
from gencore.data.images.folder import images_below
from gencore.extras import compress_extra

__all__ = ["EXACT_SUFFIXES", "read_exact_images", "write_exact_images"]

EXACT_SUFFIXES = (".png", ".bmp", ".gif", ".webp", ".jpg", ".jpeg")
"""Image files with 8 bits a sample; PNG has more in some files, which are refused."""

_MODES = ("1", "L", "P", "RGB")


def read_exact_images(
    paths: Iterable[Path],
    image_shape: tuple[int, int, int],
    levels: int,
    *,
    reduce: bool = False,
) -> Tensor:
    """The levels of images in files.

    Args:
        paths: image files (PNG, BMP, GIF, WebP, JPEG), folders with such, in the order of their
            names, and NumPy arrays (.npy) of values from 0 to 255. A grey image has three equal
            channels where C = 3, and a coloured one whose channels are equal one where C = 1.
        image_shape: [C, H, W] that all must have.
        levels: L.
        reduce: whether values v of more levels become the level ⌊v·L/256⌋, of 2^b levels the b
            highest bits, in place of an error. All else is kept.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: Pillow is not installed.
        ValueError: a file is none of these or damaged, of another size, has colours, values or
            more bits that the levels do not have, transparency or several frames.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> x = torch.tensor([[[[0, 1, 2], [13, 14, 15]]]], dtype=torch.uint8)
        >>> with TemporaryDirectory() as name:
        ...     files = write_exact_images(x, 16, Path(name))
        ...     same = torch.equal(read_exact_images([Path(name)], (1, 2, 3), 16), x)
        >>> [file.name for file in files], same
        (['0.png'], True)
    """
    images = [torch.empty(0, *image_shape, dtype=torch.uint8)]
    for path in paths:
        for file in _files(path):
            values = read_array_images(file) if file.suffix.lower() == ".npy" else _read(file)
            images.append(_to_levels(_fitted(values, image_shape, file), levels, reduce, file))
    return torch.cat(images)


def write_exact_images(x: Tensor, levels: int, out: Path) -> list[Path]:
    """Levels as files that `read_exact_images` gives them back of.

    Args:
        x: [N, C, H, W], C = 1 or 3.
        levels: L, 2 to 256.
        out: a .npy file, or a folder, made if need be, for files 0.png, 1.png and so on, with as
            many digits as the last one needs.

    Returns:
        The files.

    Raises:
        ImportError: Pillow is not installed.
        OSError: they cannot be written.
        ValueError: there are more levels than such files have, or other channels.
    """
    if not 2 <= levels <= 256 or x.shape[1] not in (1, 3):
        raise ValueError(
            f"write_exact_images: image files have 2 to 256 levels and 1 or 3 channels, got "
            f"{levels} and {x.shape[1]}"
        )
    values = shown_values(levels)[x.long()].cpu().numpy()
    if out.suffix.lower() == ".npy":
        with replacing(out) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        return [out]
    with compress_extra("writing PNG files"):
        from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    digits = len(str(max(len(values) - 1, 0)))
    files = []
    for number, image in enumerate(values):
        path = out / f"{number:0{digits}d}.png"
        with replacing(path) as temporary:
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(
                temporary
            )
        files.append(path)
    return files


def shown_values(levels: int) -> Tensor:
    """The value from 0 to 255 that shows each of L levels, uint8 [L].

    Example:
        >>> shown_values(4)
        tensor([  0,  85, 170, 255], dtype=torch.uint8)
    """
    numbers = torch.arange(levels)
    # round(255·l/(L − 1)) in whole numbers, halves upwards
    return ((510 * numbers + levels - 1) // (2 * (levels - 1))).to(torch.uint8)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(images_below(path), key=_by_numbers)
        if not files:
            raise ValueError(f"{path} holds no images ({' '.join(EXACT_SUFFIXES)})")
        return files
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    return [path]


def _by_numbers(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _read(path: Path) -> Tensor:
    """The values [1, C, H, W] of an image file that hold all that it shows."""
    if path.suffix.lower() not in EXACT_SUFFIXES:
        raise ValueError(
            f"{path}: expected an image ({' '.join(EXACT_SUFFIXES)}), a NumPy array (.npy) or a "
            "folder of images"
        )
    with compress_extra("reading image files"):
        from PIL import Image, UnidentifiedImageError

    image = decode_image(path, str(path), path.stat().st_size)
    try:
        with Image.open(path) as opened:
            lost = None
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                lost = f"is an animation of {frames} frames"
            elif opened.mode not in _MODES or "transparency" in opened.info:
                lost = f"has transparent pixels or other channels (mode {opened.mode})"
            elif opened.format == "PNG" and _png_depth(path) > 8:
                lost = f"has {_png_depth(path)} bits a sample"
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{path}: cannot read an image: {error}") from error
    if lost:
        raise ValueError(f"{path} {lost}; expected one image, grey or RGB, with 8 bits a sample")
    return image[None]


def _png_depth(path: Path) -> int:
    """Bits a sample, which Pillow cuts to 8 without a word."""
    with path.open("rb") as file:
        (depth,) = struct.unpack_from("B", file.read(32), 24)
    return int(depth)


def _fitted(values: Tensor, image_shape: tuple[int, int, int], path: Path) -> Tensor:
    """The same pixels with C channels."""
    channels, height, width = image_shape
    if tuple(values.shape[2:]) != (height, width):
        raise ValueError(
            f"{path} has {values.shape[3]} x {values.shape[2]} pixels; the model's images have "
            f"{width} x {height}"
        )
    if values.shape[1] == channels:
        return values
    if channels == 3 and values.shape[1] == 1:
        return values.expand(-1, 3, -1, -1)
    if channels == 1 and bool((values == values[:, :1]).all()):
        return values[:, :1]
    raise ValueError(
        f"{path} has {values.shape[1]} channels that differ; the model's images have {channels}"
    )


def _to_levels(values: Tensor, levels: int, reduce: bool, path: Path) -> Tensor:
    if not 2 <= levels <= 256:
        raise ValueError(f"{path}: image files have 2 to 256 levels, the model {levels}")
    if reduce:
        return (values.int() * levels // 256).to(torch.uint8)
    shown = shown_values(levels)
    table = torch.full((256,), -1)
    table[shown.long()] = torch.arange(levels)
    numbers = table[values.long()]
    if numbers.numel() and numbers.min() < 0:
        other = int(values[numbers < 0][0])
        some = ", ".join(map(str, shown[:3].tolist()))
        raise ValueError(
            f"{path} has the value {other}, which is none of the model's {levels} levels "
            f"({some}, …, 255): reduce the image to them first (--reduce)"
        )
    return numbers.to(torch.uint8)
