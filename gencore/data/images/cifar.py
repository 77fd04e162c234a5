"""CIFAR-10 and CIFAR-100 in their binary versions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gencore.data.images.part import ImagePart
from gencore.data.splits import Split

__all__ = ["holds_cifar", "read_cifar"]


class _Version(NamedTuple):
    name: str
    folder: str
    """That its archive makes."""
    files: dict[str, list[str]]
    """The names of each part."""
    suffix: str
    """Of these names."""
    marks: tuple[str, ...]
    """Files beside the parts without which their names mean nothing."""
    num_classes: int
    num_label_bytes: int
    """Of a record; the last one is the label."""
    names_file: str = ""
    """The names of the classes, one on a line; it may be missing."""


_TEN = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_HUNDRED = {"train": ["train"], "test": ["test"]}

_BINARY = (
    _Version("CIFAR-10", "cifar-10-batches-bin", _TEN, ".bin", (), 10, 1, "batches.meta.txt"),
    _Version("CIFAR-100", "cifar-100-binary", _HUNDRED, ".bin", (), 100, 2, "fine_label_names.txt"),
)
_PYTHON = (
    _Version("CIFAR-10", "cifar-10-batches-py", _TEN, "", (), 10, 1),
    _Version("CIFAR-100", "cifar-100-python", _HUNDRED, "", ("meta",), 100, 2),
)


def holds_cifar(directory: Path) -> bool:
    """Tell whether a directory holds files of CIFAR, of the binary or the Python version, or the
    folder that their archives make."""
    return bool(_find(directory, _BINARY) or _find(directory, _PYTHON))


def read_cifar(directory: Path, split: Split) -> ImagePart:
    """Read `data_batch_1.bin` … `data_batch_5.bin`, or `test_batch.bin`, of CIFAR-10; `train.bin`
    or `test.bin` of CIFAR-100.

    They lie in the directory or in its folder `cifar-10-batches-bin` or `cifar-100-binary`. A
    record is 3,073 bytes: the label 0…9, then the red, green and blue planes of 32×32 pixels; of
    CIFAR-100 3,074, of which the second is the label, 0…99, and the first its superclass. The
    classes have names if `batches.meta.txt` or `fine_label_names.txt` is there, one on a line. The
    Python versions are refused: their files are pickles, and loading a pickle can run code.

    Returns:
        Images, uint8 [N, 3, 32, 32], labels, and the names of the classes or None.

    Raises:
        FileNotFoundError: a file of this part is missing.
        ValueError: a file is not a whole number of records, has a label out of range, or is empty;
            or the directory holds both sets, or only a Python version; or a file of names has not
            one for each class.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
        https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     _ = Path(name, "test_batch.bin").write_bytes(bytes([3] + [200] * 3072))
        ...     images, labels, names = read_cifar(Path(name), "test")
        >>> images.shape, labels, names
        (torch.Size([1, 3, 32, 32]), tensor([3]), None)
    """
    found = _find(directory, _BINARY)
    if not found:
        ((place, version), *_) = _find(directory, _PYTHON)
        raise ValueError(
            f"{place}: the Python version of {version.name} is stored as pickles, which can run "
            f"code when they are loaded; use the binary version"
        )
    if len(found) > 1:
        places = " and ".join(str(place) for place, _ in found)
        raise ValueError(f"{directory} holds two data sets: name one, {places}")
    ((place, version),) = found
    parts = [_read_file(place / (name + version.suffix), version) for name in version.files[split]]
    records = torch.from_numpy(np.concatenate(parts))
    skipped = version.num_label_bytes
    images, labels = records[:, skipped:].reshape(-1, 3, 32, 32), records[:, skipped - 1]
    names = _read_names(place / version.names_file, version)
    return ImagePart(images, labels.to(torch.int64), names)


def _find(directory: Path, versions: tuple[_Version, ...]) -> list[tuple[Path, _Version]]:
    """The versions that lie in a directory, or else in the folders of their names inside it."""

    def holds(place: Path, version: _Version) -> bool:
        names = [name + version.suffix for part in version.files.values() for name in part]
        return all((place / mark).is_file() for mark in version.marks) and any(
            (place / name).is_file() for name in names
        )

    for places in (
        [(directory, v) for v in versions],
        [(directory / v.folder, v) for v in versions],
    ):
        if found := [(place, version) for place, version in places if holds(place, version)]:
            return found
    return []


def _read_file(path: Path, version: _Version) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}")
    content = np.fromfile(path, dtype=np.uint8)
    size = version.num_label_bytes + 3 * 32 * 32
    if len(content) == 0 or len(content) % size:
        raise ValueError(
            f"{path}: expected a positive multiple of {size} bytes ({version.num_label_bytes} for "
            f"the label and 3 x 32 x 32 pixels), found {len(content)}"
        )
    records = content.reshape(-1, size)
    highest = records[:, version.num_label_bytes - 1].max()
    if highest >= version.num_classes:
        raise ValueError(
            f"{path}: not {version.name}: found the label {highest}, expected 0 to "
            f"{version.num_classes - 1}"
        )
    return records


def _read_names(path: Path, version: _Version) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != version.num_classes:
        raise ValueError(
            f"{path}: expected the names of the {version.num_classes} classes of {version.name}, "
            f"one on a line, found {len(names)}"
        )
    return names
