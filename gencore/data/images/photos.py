"""Patches of the two photographs that come inside scikit-learn."""

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split
from gencore.extras import training_extra

__all__ = ["read_photos"]

# Each is 427 pixels high and 640 wide; the place in the list is the label.
_PHOTOS = ("china.jpg", "flower.jpg")

# The right fifth of each photograph is the test part, the rest trains: no pixel is in both.
_BORDER = 512
_MAX_SIZE = 640 - _BORDER

_TRAIN_STRIDE = 8


def read_photos(split: Split, size: int = 32) -> tuple[Tensor, Tensor]:
    """Cut square patches out of a photograph of a palace and one of a flower.

    The test patches tile the right fifth of each photograph without overlap, and the training
    patches lie 8 pixels apart in the rest: with 32 pixels 104 patches and 6,100. The patches of a
    photograph come row by row.

    Args:
        split: The part to cut.
        size: Side of a patch, from 1 to 128 pixels.

    Returns:
        Patches, uint8 [N, 3, size, size], and the photograph of each, int64 [N].

    Raises:
        ImportError: scikit-learn or Pillow is not installed.
        ValueError: `size` is out of range.

    Source:
        "china" by danielbuechele and "flower" by vultilion, flickr.com, CC BY 2.0, which
        scikit-learn distributes.

    Example:
        >>> images, labels = read_photos("test")
        >>> images.shape, images.dtype, labels.bincount()
        (torch.Size([104, 3, 32, 32]), torch.uint8, tensor([52, 52]))
    """
    if not 1 <= size <= _MAX_SIZE:
        raise ValueError(
            f'load_images("photos"): image_size = {size}, expected 1 to {_MAX_SIZE}, the width of '
            "the test part"
        )
    with training_extra('load_images("photos")'):
        import PIL  # noqa: F401 - scikit-learn's own complaint would not say how to install it
        from sklearn.datasets import load_sample_image

    columns, stride = (
        (slice(_BORDER), _TRAIN_STRIDE) if split == "train" else (slice(_BORDER, None), size)
    )
    regions = [load_sample_image(name)[:, columns] for name in _PHOTOS]
    patches = [_patches(region, size, stride) for region in regions]
    labels = [torch.full((len(part),), label) for label, part in enumerate(patches)]
    return torch.cat(patches), torch.cat(labels)


def _patches(region: np.ndarray, size: int, stride: int) -> Tensor:
    """The patches [N, 3, size, size] of a region [H, W, 3], `stride` pixels apart."""
    pixels = torch.from_numpy(np.ascontiguousarray(region)).permute(2, 0, 1)
    windows = pixels.unfold(1, size, stride).unfold(2, size, stride)  # [3, rows, columns, H, W]
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size)
