"""A folder of image files."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gencore.data.images.decoding import IMAGE_SUFFIXES, decode_image
from gencore.data.images.part import ImagePart
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.splits import Split, split_indices

__all__ = ["holds_images", "read_folder"]

_PARTS: tuple[Split, ...] = ("train", "test")


def holds_images(folder: Path) -> bool:
    """Tell whether a folder holds image files, at any depth."""
    return next(images_below(folder), None) is not None


def read_folder(
    folder: Path,
    split: Split,
    image_size: int | None = None,
    channels: int | None = None,
    background: int = 255,
) -> ImagePart:
    """Read the image files of a folder.

    Files directly in the folder have no labels. Files in subfolders, at any depth, take the first
    subfolder as their class; classes are numbered in the order of their names' characters.
    Subfolders named `train` and `test` are the two parts, and each is then such a folder (`Train`
    and `Test` as well, where both are there); otherwise `split_indices` divides the files, sorted
    by path. Links are followed. Hidden files and folders, files with other suffixes, and links back
    to a folder that they lie in are passed over.

    EXIF orientation is applied, transparent pixels show the background, and of an animation the
    first frame counts.

    Args:
        folder: The folder.
        split: The part to read.
        image_size: Side of the square that every image is resized and cropped to; without it all
            must have one size.
        channels: 1 or 3; without it 1 if all images are grey, else 3.
        background: Grey level behind transparent pixels; white, as pages show them.

    Returns:
        Images, uint8 [N, C, H, W], and labels with the names of their classes, or None.

    Raises:
        FileNotFoundError: only the other part has a folder.
        ImportError: Pillow is not installed.
        OSError: a folder cannot be read.
        ValueError: a file cannot be decoded or has more than 8 bits a sample; sizes differ; there
            are no images, or some in subfolders and some not.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as name:
        ...     for index in range(5):
        ...         Image.new("RGB", (12, 8), (255, 0, 0)).save(Path(name, f"{index}.png"))
        ...     images, labels, names = read_folder(Path(name), "train", image_size=4)
        >>> images.shape, labels, names
        (torch.Size([4, 3, 4, 4]), None, None)
    """
    parts = _find_parts(folder)
    if parts and split not in parts:
        raise FileNotFoundError(
            f"{folder} holds a folder {next(iter(parts))}, but no folder {split}"
        )
    found = {root: _list_images(root) for root in (parts.values() or [folder])}
    # The numbers of the classes are those of both parts, whichever is read.
    classes = sorted({name for files in found.values() for _, name in files if name is not None})
    number = {name: index for index, name in enumerate(classes)}

    files = found[parts[split] if parts else folder]
    labels = None
    if files[0][1] is not None:
        labels = torch.tensor([number[name] for _, name in files if name is not None])
    if not parts:
        chosen = split_indices(len(files), split, labels)
        files = [files[index] for index in chosen.tolist()]
        labels = None if labels is None else labels[chosen]
    images = _read_images([path for path, _ in files], image_size, channels, background)
    return ImagePart(images, labels, None if labels is None else tuple(classes))


def _find_parts(folder: Path) -> dict[Split, Path]:
    """Those of `train` and `test` that are subfolders; neither may be one class of several."""
    folders = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    folders = [path for path in folders if path.is_dir()]
    named = {part: [path for path in folders if path.name.lower() == part] for part in _PARTS}
    # Alone, Train may be the class that it names.
    if not all(named.values()):
        named = {part: [path for path in folders if path.name == part] for part in _PARTS}
    for paths in named.values():
        if len(paths) > 1:
            raise ValueError(f"{folder} holds {paths[0].name} and {paths[1].name}: which is meant?")
    parts = {part: paths[0] for part, paths in named.items() if paths}
    if len(parts) == 1:
        (only,) = parts.values()
        for other in folders:
            if other != only and holds_images(other):
                raise ValueError(
                    f"{folder} holds the folders {only.name} and {other.name}: folders named train "
                    "and test are parts, not classes; put the classes into them, or rename "
                    f"{only.name} if it is a class"
                )
    return parts


def images_below(folder: Path, around: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """The image files of a folder that lies in the folders `around`."""
    status = folder.stat()
    inside = around | {(status.st_dev, status.st_ino)}
    if inside == around:  # a link led back
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            # Not `entry.is_dir`, which raises an error for a link to itself.
            if path.is_dir() if entry.is_symlink() else entry.is_dir():
                yield from images_below(path, inside)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                yield path


def _list_images(root: Path) -> list[tuple[Path, str | None]]:
    """List every image with its class, sorted by path; the class of a file in `root` is None."""
    files: list[tuple[Path, str | None]] = []
    for path in sorted(images_below(root)):
        inside = path.relative_to(root).parts
        # Systems differ in how they compose letters and accents.
        name = unicodedata.normalize("NFC", inside[0]) if len(inside) > 1 else None
        files.append((path, name))
    if not files:
        raise ValueError(f"{root} holds no images ({' '.join(IMAGE_SUFFIXES)})")
    loose = [path for path, name in files if name is None]
    if 0 < len(loose) < len(files):
        raise ValueError(
            f"{root} holds images in subfolders, which name their classes, but {loose[0]} has "
            "none: move it into one, or take the subfolders out"
        )
    return files


def _read_images(
    paths: list[Path], image_size: int | None, channels: int | None, background: int
) -> Tensor:
    images: list[Tensor] = []
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: cannot read an image: it is a link to nothing, or no file")
        image = decode_image(path, str(path), path.stat().st_size, background)[None]
        if image_size is not None:
            image = resize_images(image, image_size)
        elif images and image.shape[2:] != images[0].shape[2:]:
            (first_height, first_width), (height, width) = images[0].shape[2:], image.shape[2:]
            raise ValueError(
                f"{path} has {width} x {height} pixels, but {paths[0]} has "
                f"{first_width} x {first_height}: give image_size to make all alike"
            )
        images.append(image)
    if channels is None:
        channels = max(image.shape[1] for image in images)
    return torch.cat([convert_channels(image, channels) for image in images])
