"""Pictures that come inside scikit-image: faces, textures and photographs."""

import numpy as np
import torch

from gencore.data.images.part import ImagePart
from gencore.data.images.patches import cut_patches
from gencore.data.packaged import packaged_file
from gencore.data.splits import Split, split_indices
from gencore.extras import data_extra

__all__ = ["PHOTOGRAPHS", "read_faces", "read_photographs", "read_textures"]

# These lie in the package itself; its other pictures are downloaded when they are first used.
_TEXTURES = {"brick": "brick.png", "grass": "grass.png", "gravel": "gravel.png"}
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
}

_NUM_FACES = 100


def read_faces(split: Split) -> ImagePart:
    """Read the 100 faces of 25×25 pixels; the values 0…1 become round(255·value).

    The file has 100 pieces of background behind the faces, which are left out. The test part is a
    fixed fifth (20 faces, 80 for training). Who the people are is not known, so one person may be
    in both parts.

    Returns:
        Images, uint8 [N, 1, 25, 25], without labels.

    Raises:
        FileNotFoundError: the installed scikit-image does not have the faces.
        ModuleNotFoundError: scikit-image is not installed.

    Source:
        Huang, Mattar, Lee and Learned-Miller, "Learning to Align from Scratch", 2012 ("Labeled
        Faces in the Wild"); a random subset of crops that scikit-image distributes as
        `skimage.data.lfw_subset`.

    Example:
        >>> read_faces("test").images.shape
        torch.Size([20, 1, 25, 25])
    """
    path = packaged_file('load_images("faces")', "skimage", "data", "lfw_subset.npy")
    values = torch.from_numpy(np.load(path, allow_pickle=False)[:_NUM_FACES])
    images = (values * 255).round().to(torch.uint8)[:, None]
    return ImagePart(images[split_indices(_NUM_FACES, split)])


def read_textures(split: Split, size: int = 32) -> ImagePart:
    """Cut square patches out of grey photographs, of 512×512 pixels, of a brick wall, grass and
    gravel.

    `cut_patches` says which. With 32 pixels there are 8,784 for training and 144 for testing.

    Args:
        split: The part to cut.
        size: Side of a patch, from 1 to 103 pixels.

    Returns:
        Patches, uint8 [N, 1, size, size], and the texture of each.

    Raises:
        FileNotFoundError: the installed scikit-image does not have the photographs.
        ModuleNotFoundError: scikit-image or Pillow is not installed.
        ValueError: `size` is out of range.

    Source:
        CC0Textures.com, CC0, which scikit-image distributes.

    Example:
        >>> images, labels, names = read_textures("test")
        >>> images.shape, labels.bincount(), names
        (torch.Size([144, 1, 32, 32]), tensor([48, 48, 48]), ('brick', 'grass', 'gravel'))
    """
    return _cut("textures", _TEXTURES, split, size)


def read_photographs(split: Split, size: int = 32) -> ImagePart:
    """Cut square patches out of colour photographs of an astronaut, a cat, a cup of coffee and the
    launch of a rocket.

    `cut_patches` says which. With 32 pixels there are 10,085 for training and 154 for testing.

    Args:
        split: The part to cut.
        size: Side of a patch, from 1 to 91 pixels.

    Returns:
        Patches, uint8 [N, 3, size, size], and the photograph of each.

    Raises:
        FileNotFoundError: the installed scikit-image does not have the photographs.
        ModuleNotFoundError: scikit-image or Pillow is not installed.
        ValueError: `size` is out of range.

    Source:
        Eileen Collins by NASA and the rocket by SpaceX, public domain; "Chelsea" by Stefan van der
        Walt and the coffee by Rachel Michetti, CC0; which scikit-image distributes.

    Example:
        >>> images, labels, names = read_photographs("test")
        >>> images.shape, labels.bincount(), names[1]
        (torch.Size([154, 3, 32, 32]), tensor([48, 18, 36, 52]), 'cat')
    """
    return _cut("photographs", PHOTOGRAPHS, split, size)


def _cut(name: str, files: dict[str, str], split: Split, size: int) -> ImagePart:
    needed_for = f'load_images("{name}")'
    paths = [packaged_file(needed_for, "skimage", "data", file) for file in files.values()]
    with data_extra(needed_for):
        from PIL import Image

    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.array(picture)
        pictures.append(pixels[..., None] if pixels.ndim == 2 else pixels)
    return ImagePart(*cut_patches(name, pictures, split, size), tuple(files))
