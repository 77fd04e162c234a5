"""IDX files: MNIST, Fashion-MNIST, KMNIST, and whatever else keeps their names."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from gencore.data.splits import Split

__all__ = ["holds_idx", "read_idx"]

_PREFIX = {"train": "train", "test": "t10k"}

# Bytes read at a time; a header that lies about its size then costs no memory.
_CHUNK = 1 << 20


def holds_idx(directory: Path) -> bool:
    """Tell whether a directory holds any of the four IDX files of MNIST."""
    return any(
        _find(directory, f"{prefix}-{kind}") is not None
        for prefix in _PREFIX.values()
        for kind in ("images-idx3", "labels-idx1")
    )


def read_idx(directory: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Read `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` or their `t10k-` twins.

    Each may end in `.gz`; `train-images.idx3-ubyte` is accepted too. A file is: two zero bytes,
    the type code 8 (unsigned byte), the number of axes, each axis as a big-endian 32-bit integer,
    then the bytes in row-major order.

    Returns:
        Images, uint8 [N, 1, H, W], and labels, int64 [N].

    Raises:
        FileNotFoundError: the images or the labels of this part are missing.
        ValueError: a file is damaged, cut short, or not IDX, or the two differ in number.

    Source:
        LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998, file formats.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> def write(path, shape, content):
        ...     header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        ...     _ = path.write_bytes(header + bytes(content))
        >>> with TemporaryDirectory() as name:
        ...     write(Path(name, "train-images-idx3-ubyte"), (1, 2, 2), [1, 2, 3, 4])
        ...     write(Path(name, "train-labels-idx1-ubyte"), (1,), [7])
        ...     read_idx(Path(name), "train")
        (tensor([[[[1, 2],
                  [3, 4]]]], dtype=torch.uint8), tensor([7]))
    """
    prefix = _PREFIX[split]
    images_path, labels_path = (
        _require(directory, f"{prefix}-{kind}") for kind in ("images-idx3", "labels-idx1")
    )
    images, labels = _read_file(images_path, ndim=3), _read_file(labels_path, ndim=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds "
            f"{len(labels)} labels"
        )
    return images[:, None], labels.to(torch.int64)


def _find(directory: Path, stem: str) -> Path | None:
    names = [f"{stem}-ubyte", f"{stem.replace('-idx', '.idx')}-ubyte"]
    candidates = (directory / (name + suffix) for name in names for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _require(directory: Path, stem: str) -> Path:
    path = _find(directory, stem)
    if path is None:
        raise FileNotFoundError(f"{directory} holds no {stem}-ubyte or {stem}-ubyte.gz")
    return path


def _read_file(path: Path, ndim: int) -> Tensor:
    with path.open("rb") as raw:
        if path.suffix != ".gz":
            return _parse(raw, path, ndim)
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                return _parse(file, path, ndim)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from error


def _parse(file: io.BufferedIOBase, path: Path, ndim: int) -> Tensor:
    magic, found = bytes([0, 0, 8, ndim]), bytes(_read_up_to(file, 4))
    if found != magic:
        raise ValueError(
            f"{path}: not an IDX file of {ndim} axes of unsigned bytes: expected the first 4 "
            f"bytes {magic.hex(' ')}, found {found.hex(' ') or 'an empty file'}"
        )
    header = _read_up_to(file, 4 * ndim)
    if len(header) < 4 * ndim:
        raise ValueError(
            f"{path}: header cut short: expected {4 + 4 * ndim} bytes, found {4 + len(header)}"
        )
    shape = struct.unpack(f">{ndim}I", header)
    size = math.prod(shape)
    content = _read_up_to(file, size)
    # The read past the end makes gzip verify its checksum, too.
    is_longer = len(content) == size and file.read1(1) != b""
    if len(content) < size or is_longer:
        found_size = "more" if is_longer else f"only {len(content)}"
        raise ValueError(
            f"{path}: expected {size} bytes for the shape {shape} in its header, found {found_size}"
        )
    if size == 0:
        raise ValueError(f"{path}: empty: its header says shape {shape}")
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)


def _read_up_to(file: io.BufferedIOBase, count: int) -> bytearray:
    """Read `count` bytes, or those that there are before the file or its gzip stream breaks off."""
    content = bytearray()
    try:
        while len(content) < count:
            # Not `read`, which loses what precedes the break in a gzip stream.
            part = file.read1(min(_CHUNK, count - len(content)))
            if not part:
                break
            content += part
    except EOFError:
        pass
    return content
