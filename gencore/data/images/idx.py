"""IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST, and whatever else keeps their names."""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from gencore.data.images.part import ImagePart
from gencore.data.splits import Split

__all__ = ["holds_idx", "read_idx"]

# What precedes tells one data set of a directory from another, as in emnist-letters-train-….
_NAME = re.compile(
    r"(?!\.)(?P<set>.*?)(?P<part>train|test|t10k)-(?P<kind>images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?",
    re.IGNORECASE,
)

# Part and kind, as in ("train", "images-idx3") → file.
_Files = dict[tuple[str, str], Path]

# Bytes read at a time; a header that lies about its size then costs no memory.
_CHUNK = 1 << 20


def holds_idx(source: Path) -> bool:
    """Tell whether `read_idx` finds any file there."""
    return bool(_find_sets(source))


def read_idx(source: Path, split: Split) -> ImagePart:
    """Read `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` or their `t10k-` counterparts.

    They lie in the directory, in its folder `raw`, or, as torchvision puts them, in the `raw` of a
    folder inside it. Each may end in `.gz`; `train-images.idx3-ubyte` is accepted too, `test` for
    `t10k`, and any name before that, as in `emnist-letters-train-images-idx3-ubyte`. Of a
    directory with several sets one is named by the path of one of its files.

    A file is: two zero bytes, the type code 8 (unsigned byte), the number of axes, each axis as a
    big-endian 32-bit integer, then the bytes in row-major order. EMNIST has its images transposed;
    they come as they are stored.

    Returns:
        Images, uint8 [N, 1, H, W], and labels.

    Raises:
        FileNotFoundError: the images or the labels of this part are missing.
        ValueError: a file is damaged, cut short, or not IDX, or the two differ in number; or there
            are several sets.

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
        ...     read_idx(Path(name), "train")[:2]
        (tensor([[[[1, 2],
                  [3, 4]]]], dtype=torch.uint8), tensor([7]))
    """
    sets = _find_sets(source)
    if len(sets) > 1:
        names = ", ".join(str(next(iter(files.values()))) for files in sets.values())
        raise ValueError(f"{source} holds {len(sets)} data sets: name one of these, {names}")
    (((directory, prefix), files),) = sets.items()
    part = split if split == "train" or prefix else "t10k"
    for kind in ("images-idx3", "labels-idx1"):
        if (split, kind) not in files:
            name = f"{prefix}{part}-{kind}-ubyte"
            raise FileNotFoundError(f"{directory} holds no {name} or {name}.gz")
    images_path, labels_path = files[split, "images-idx3"], files[split, "labels-idx1"]
    images, labels = _read_file(images_path, ndim=3), _read_file(labels_path, ndim=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds "
            f"{len(labels)} labels"
        )
    return ImagePart(images[:, None], labels.to(torch.int64))


def _find_sets(source: Path) -> dict[tuple[Path, str], _Files]:
    """Directory and beginning of the names of each data set → its files; for one file its set."""
    if source.is_file():
        match = _NAME.fullmatch(source.name)
        sets = _list_sets(source.parent) if match else {}
        return {key: files for key, files in sets.items() if match and key[1] == match["set"]}
    for places in ([source], [source / "raw"], sorted(source.glob("[!.]*/raw"))):
        sets = {}
        for place in places:
            if place.is_dir():
                sets |= _list_sets(place)
        if sets:
            return sets
    return {}


def _list_sets(directory: Path) -> dict[tuple[Path, str], _Files]:
    found = [(path, _NAME.fullmatch(path.name)) for path in directory.iterdir()]
    matches = [(path, match) for path, match in found if match and path.is_file()]
    sets: dict[tuple[Path, str], _Files] = {}
    # In this order -idx comes before .idx, and what is not packed before what is.
    for path, match in sorted(matches, key=lambda item: (item[0].suffix.lower() == ".gz", item[0])):
        split = "train" if match["part"].lower() == "train" else "test"
        kind = match["kind"].lower().replace(".idx", "-idx")
        sets.setdefault((directory, match["set"]), {}).setdefault((split, kind), path)
    return sets


def _read_file(path: Path, ndim: int) -> Tensor:
    with path.open("rb") as raw:
        if path.suffix.lower() != ".gz":
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
