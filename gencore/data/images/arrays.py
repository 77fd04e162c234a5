"""NumPy files: one array in `.npy`, several with names in `.npz`."""

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from gencore.data.images.part import ImagePart
from gencore.data.splits import Split, split_indices

__all__ = ["read_array_images", "read_npy", "read_npz"]

# Keys of the images and of their labels, in the order in which they are tried.
_DIVIDED_KEYS: list[tuple[str, str]] = [
    ("x_{}", "y_{}"),
    ("{}_images", "{}_labels"),
    ("{}", "{}_labels"),
]
_UNDIVIDED_KEYS: list[tuple[str, str | None]] = [("images", "labels"), ("x", "y"), ("arr_0", None)]


def read_npy(path: Path, split: Split) -> ImagePart:
    """Read the images of a `.npy` file and choose their train or test part (see `split_indices`).

    The array is uint8: [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3. It is never
    unpickled.

    Returns:
        Images, uint8 [N, C, H, W], without labels.

    Raises:
        ValueError: the file is damaged or cut short, or the array has another type or shape.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     np.save(Path(name, "images.npy"), np.zeros((50, 8, 6, 3), dtype=np.uint8))
        ...     read_npy(Path(name, "images.npy"), "train").images.shape
        torch.Size([40, 3, 8, 6])
    """
    images = read_array_images(path)
    return ImagePart(images[split_indices(len(images), split)])


def read_array_images(path: Path) -> Tensor:
    """All images of a `.npy` file, uint8 [N, C, H, W], as `read_npy` reads them."""
    with path.open("rb") as file:
        array = _read_array(file, path.stat().st_size, str(path), _check_images)
    return _as_images(array, str(path))


def read_npz(path: Path, split: Split) -> ImagePart:
    """Read the images, and the labels if there are any, of a `.npz` file.

    The first of these keys that is there decides; `{split}` is `train` or `test`:

    | images | labels (optional) | parts |
    |---|---|---|
    | `x_{split}` | `y_{split}` | as stored |
    | `{split}_images` | `{split}_labels` | as stored |
    | `{split}` | `{split}_labels` | as stored |
    | `images` | `labels` | chosen by `split_indices` |
    | `x` | `y` | chosen by `split_indices` |
    | `arr_0` | none | chosen by `split_indices` |

    Images are as in `read_npy`, labels integers of any type below 2⁶³, of shape [N] or [N, 1].

    Returns:
        Images, uint8 [N, C, H, W], and labels or None.

    Raises:
        ValueError: the file is damaged or cut short, none of the keys is there, or an array has
            another type or shape.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> pixels = np.arange(36, dtype=np.uint8).reshape(4, 3, 3)
        >>> with TemporaryDirectory() as name:
        ...     np.savez(Path(name, "a.npz"), x_train=pixels, y_train=[0, 1, 0, 1])
        ...     images, labels, _ = read_npz(Path(name, "a.npz"), "train")
        >>> images.shape, labels
        (torch.Size([4, 1, 3, 3]), tensor([0, 1, 0, 1]))
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                images_key, labels_key, is_divided = _find_keys(archive, path, split)
                images = _as_images(*_read_member(archive, path, images_key, _check_images))
                labels = None
                if labels_key is not None:
                    member = _read_member(archive, path, labels_key, _check_labels)
                    labels = _as_labels(*member, len(images))
        # A damaged directory of the archive shows as any of these.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            size = path.stat().st_size
            raise ValueError(f"{path}: damaged .npz file of {size} bytes: {error}") from error
    if is_divided:
        return ImagePart(images, labels)
    part = split_indices(len(images), split, labels)
    return ImagePart(images[part], None if labels is None else labels[part])


def _find_keys(archive: zipfile.ZipFile, path: Path, split: Split) -> tuple[str, str | None, bool]:
    keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

    def present(key: str | None) -> str | None:
        return key if key in keys else None

    divided = [(images.format(split), labels.format(split)) for images, labels in _DIVIDED_KEYS]
    for images_key, labels_key in [*divided, *_UNDIVIDED_KEYS]:
        if images_key in keys:
            return images_key, present(labels_key), (images_key, labels_key) in divided
    expected = [key for key, _ in [*divided, *_UNDIVIDED_KEYS]]
    raise ValueError(
        f"{path}: no images for the {split} part: expected one of the keys {', '.join(expected)}; "
        f"found {', '.join(keys) or 'none'}"
    )


def _read_member(
    archive: zipfile.ZipFile, path: Path, key: str, check: Callable[[np.dtype, str], None]
) -> tuple[np.ndarray, str]:
    name, where = f"{key}.npy", f"{path}, key {key}"
    with archive.open(name) as file:
        return _read_array(file, archive.getinfo(name).file_size, where, check), where


def _check_images(dtype: np.dtype, where: str) -> None:
    if dtype == np.uint8:
        return
    hint = ""
    if dtype.kind == "f":
        hint = " (gencore.data.to_uint8 converts floating-point images)"
    elif dtype.kind in "iu":
        hint = " (array.astype(numpy.uint8) converts levels that are integers)"
    raise ValueError(f"{where}: dtype {dtype}, expected uint8 with levels 0 to 255{hint}")


def _check_labels(dtype: np.dtype, where: str) -> None:
    if dtype.kind in "iu":
        return
    hint = " (numpy.unique(labels, return_inverse=True)[1] numbers names)" * (dtype.kind in "US")
    raise ValueError(f"{where}: dtype {dtype}, expected integer labels{hint}")


def _read_array(
    file: IO[bytes], size: int, where: str, check: Callable[[np.dtype, str], None]
) -> np.ndarray:
    """Read one array in NumPy's format, of a type that passes `check`, from `size` bytes.

    Unlike `numpy.load` it has no path that unpickles, and it allocates no more than the bytes that
    are there, whatever the header promises.
    """
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    # The header is parsed as a Python literal, which fails in many ways.
    except Exception as error:
        raise ValueError(f"{where}: no NumPy array in these {size} bytes: {error}") from error
    check(dtype, where)
    expected, found = math.prod(shape) * dtype.itemsize, max(size - file.tell(), 0)
    if expected <= 0:
        raise ValueError(f"{where}: empty: shape {shape}")
    content = bytearray(file.read(min(expected, found)))
    if len(content) < expected:
        raise ValueError(
            f"{where}: cut short: expected {expected} bytes for shape {shape} of {dtype}, "
            f"found {len(content)}"
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _as_images(array: np.ndarray, where: str) -> Tensor:
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim != 4:
        raise ValueError(
            f"{where}: shape {array.shape}, expected [N, H, W], [N, H, W, C] or [N, C, H, W]"
        )
    else:
        is_nchw, is_nhwc = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if is_nchw == is_nhwc:
            problem = "either axis could be" if is_nchw else "no axis is"
            raise ValueError(
                f"{where}: shape {array.shape}: {problem} the 1 or 3 channels, expected "
                "[N, H, W, C] or [N, C, H, W]"
            )
        if is_nhwc:
            array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _as_labels(array: np.ndarray, where: str, num: int) -> Tensor:
    if array.shape not in ((num,), (num, 1)):
        raise ValueError(f"{where}: shape {array.shape}, expected ({num},) for {num} images")
    if (highest := array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{where}: found the label {highest}, expected numbers below 2^63")
    return torch.from_numpy(array.reshape(num).astype(np.int64))
