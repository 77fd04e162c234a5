"""The data set of images that the recipes train on, and the one function that loads it."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gencore.data.images.arrays import read_npy, read_npz
from gencore.data.images.cifar import holds_cifar, read_cifar
from gencore.data.images.digits import read_digits
from gencore.data.images.folder import IMAGE_SUFFIXES, holds_images, read_folder
from gencore.data.images.idx import holds_idx, read_idx
from gencore.data.images.photos import read_photos
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.splits import Split

__all__ = ["ImageDataset", "load_images"]

EMBEDDED = ("digits", "photos")
"""Sources that are names and no paths."""

_ACCEPTED = (
    'accepted are "digits" and "photos"; a .npy or .npz file; a directory with the IDX files of '
    "MNIST (train-images-idx3-ubyte, …, plain or .gz); a directory with the binary version of "
    "CIFAR-10 (data_batch_1.bin, …) or CIFAR-100 (train.bin, …); a folder of images "
    f"({' '.join(IMAGE_SUFFIXES)})"
)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images in memory, with their labels if there are any.

    Raises:
        TypeError: `images` is not uint8, or `labels` not int64.
        ValueError: `images` is not [N, C, H, W] with N ≥ 1 and C = 1 or 3, or `labels` not [N].

    Example:
        >>> dataset = ImageDataset(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), None, "zeros")
        >>> len(dataset)
        6
        >>> dataset.subset(range(2))
        ImageDataset(zeros: 2 images of 1x8x8)
    """

    images: Tensor
    """uint8 [N, C, H, W]."""

    labels: Tensor | None
    """Class of each image, int64 [N], or None."""

    name: str
    """What plots and logs call it."""

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8:
            raise TypeError(f"ImageDataset: images are {self.images.dtype}, expected torch.uint8")
        if len(shape) != 4 or 0 in shape or shape[1] not in (1, 3):
            raise ValueError(
                f"ImageDataset: images have shape {shape}, expected [N, C, H, W], not empty, "
                "with C = 1 or 3"
            )
        if self.labels is None:
            return
        if self.labels.dtype != torch.int64:
            raise TypeError(f"ImageDataset: labels are {self.labels.dtype}, expected torch.int64")
        if self.labels.shape != shape[:1]:
            raise ValueError(
                f"ImageDataset: labels have shape {tuple(self.labels.shape)}, expected "
                f"{shape[:1]} for {shape[0]} images"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(str(side) for side in self.images.shape[1:])
        classes = "" if self.labels is None else f", {len(torch.unique(self.labels))} classes"
        return f"ImageDataset({self.name}: {len(self)} images of {shape}{classes})"

    def fingerprint(self) -> str:
        """A hash of all images and labels, which other data do not share.

        Example:
            >>> dataset = ImageDataset(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), None, "zeros")
            >>> dataset.fingerprint() == dataset.subset(range(5)).fingerprint()
            False
        """
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for part in (self.images, self.labels):
            if part is not None:
                digest.update(part.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def subset(self, indices: Tensor | Sequence[int] | slice) -> "ImageDataset":
        """Take the images at `indices` (integers or a boolean mask [N]), with their labels."""
        if not isinstance(indices, slice | Tensor):
            indices = torch.tensor(list(indices), dtype=torch.int64)
        labels = None if self.labels is None else self.labels[indices]
        return ImageDataset(self.images[indices], labels, self.name)


def load_images(
    source: str | Path,
    *,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    background: int = 255,
) -> ImageDataset:
    """Load one part of an image data set into memory.

    | `source` | what it is | its parts |
    |---|---|---|
    | `"digits"` | 1,797 digits of 8×8, part of scikit-learn | a fixed fifth is the test part |
    | `"photos"` | RGB patches of two photographs, part of scikit-learn | by region |
    | `….npy` | uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] | a fixed fifth |
    | `….npz` | the same under `x_train`, `y_train`, … or `images` | by key, or a fixed fifth |
    | a directory | IDX files, of MNIST or with its names, plain or `.gz` | by file name |
    | a file | one of a set of IDX files, where a directory has several | by file name |
    | a directory | CIFAR-10 or CIFAR-100, binary version | by file name |
    | a directory | image files; class subfolders give labels | `train/` and `test/`, or a fifth |

    `gencore.data.splits.split_indices` chooses the fixed fifth, class by class. The names "digits"
    and "photos" are always the embedded sets; write `./digits` for a path. Nothing is ever
    unpickled.

    Args:
        source: A name or a path, as above.
        split: The part to load, "train" or "test".
        image_size: Scale the shorter side to this many pixels (bilinear, antialiased) and cut out
            the central square. Without it images keep their size. Patches of "photos" are cut in
            this size, 32 without it.
        channels: Convert to 1 (grey) or 3 (RGB). Without it images keep their channels.
        background: Grey level, 0 to 255, behind the transparent pixels of image files.

    Raises:
        FileNotFoundError: the path, or a file that belongs to the data set, does not exist.
        ImportError: scikit-learn (digits, photos) or Pillow (folders, photos) is not installed.
        ValueError: an argument is out of range; a file is damaged, cut short, empty, or has the
            wrong type or shape; or nothing here reads what the path is.

    Example:
        >>> load_images("digits", split="test", image_size=16, channels=3)
        ImageDataset(digits: 359 images of 3x16x16, 10 classes)
    """
    if split not in ("train", "test"):
        raise ValueError(f'load_images: split = {split!r}, expected "train" or "test"')
    if image_size is not None and image_size < 1:
        raise ValueError(f"load_images: image_size = {image_size}, expected at least 1")
    if channels not in (None, 1, 3):
        raise ValueError(f"load_images: channels = {channels}, expected 1, 3 or None")
    if background not in range(256):
        raise ValueError(f"load_images: background = {background}, expected 0 to 255")

    images, labels = _read(source, split, image_size, channels, background)
    if image_size is not None:
        images = resize_images(images, image_size)
    if channels is not None:
        images = convert_channels(images, channels)
    return ImageDataset(images, labels, _name(source))


def source_path(source: str | Path) -> Path:
    """The path that a source is; a user's home folder for `~`, if there is such a user."""
    return Path(os.path.expanduser(source))  # noqa: PTH111 - pathlib's raises a RuntimeError


def _name(source: str | Path) -> str:
    if source in EMBEDDED:
        return str(source)
    path = source_path(source).resolve()
    return path.stem if path.is_file() else path.name


def _read(
    source: str | Path,
    split: Split,
    image_size: int | None,
    channels: int | None,
    background: int,
) -> tuple[Tensor, Tensor | None]:
    """Read with the reader that fits what `source` is."""
    if source == "digits":
        return read_digits(split)
    if source == "photos":
        return read_photos(split, 32 if image_size is None else image_size)
    if source == "":
        raise ValueError(f"load_images: the source is an empty string; {_ACCEPTED}")
    path = source_path(source)
    if not path.exists():
        raise FileNotFoundError(f"load_images: {path} does not exist; {_ACCEPTED}")
    if path.is_file() and path.suffix.lower() == ".npy":
        return read_npy(path, split)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path, split)
    if holds_idx(path):
        return read_idx(path, split)
    if path.is_dir() and holds_cifar(path):
        return read_cifar(path, split)
    if path.is_dir() and holds_images(path):
        # Files of one folder may differ in size and channels, so it converts each by itself.
        return read_folder(path, split, image_size, channels, background)
    raise ValueError(f"load_images: nothing reads {path}; {_ACCEPTED}")
