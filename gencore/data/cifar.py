"""CIFAR-10 in its binary version."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split

__all__ = ["holds_cifar", "read_cifar"]

_FILES = {
    "train": [f"data_batch_{number}" for number in range(1, 6)],
    "test": ["test_batch"],
}
_RECORD = 1 + 3 * 32 * 32


def holds_cifar(directory: Path) -> bool:
    """Tell whether a directory holds any file of CIFAR-10, of the binary or the Python version."""
    return any(
        (directory / (name + suffix)).is_file()
        for names in _FILES.values()
        for name in names
        for suffix in (".bin", "")
    )


def read_cifar(directory: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Read `data_batch_1.bin` … `data_batch_5.bin`, or `test_batch.bin`.

    A record is 3,073 bytes: the label 0…9, then the red, green and blue planes of 32×32 pixels.
    The Python version is refused: its files are pickles, and loading a pickle can run code.

    Returns:
        Images, uint8 [N, 3, 32, 32], and labels, int64 [N].

    Raises:
        FileNotFoundError: a file of this part is missing.
        ValueError: a file is not a whole number of records, has a label above 9, or is empty; or
            the directory holds the Python version.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
        https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     _ = Path(name, "test_batch.bin").write_bytes(bytes([3] + [200] * 3072))
        ...     images, labels = read_cifar(Path(name), "test")
        >>> images.shape, labels
        (torch.Size([1, 3, 32, 32]), tensor([3]))
    """
    parts = [_read_file(directory, name) for name in _FILES[split]]
    records = torch.from_numpy(np.concatenate(parts))
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].to(torch.int64)


def _read_file(directory: Path, name: str) -> np.ndarray:
    path = directory / f"{name}.bin"
    if not path.is_file():
        if (directory / name).is_file():
            raise ValueError(
                f"{directory / name}: the Python version of CIFAR-10 is stored as pickles, which "
                f"can run code when they are loaded; use the binary version ({path.name})"
            )
        raise FileNotFoundError(f"{directory} holds no {path.name}")
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % _RECORD:
        raise ValueError(
            f"{path}: expected a positive multiple of {_RECORD} bytes (a label and 3 x 32 x 32 "
            f"pixels), found {len(content)}"
        )
    records = content.reshape(-1, _RECORD)
    if (highest := records[:, 0].max()) > 9:
        raise ValueError(f"{path}: not CIFAR-10: found the label {highest}, expected 0 to 9")
    return records
