"""Square patches of a few pictures, the test part from another region than the training part."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split, split_block

__all__ = ["cut_patches"]

_TRAIN_STRIDE = 8


def cut_patches(
    name: str, pictures: Sequence[np.ndarray], split: Split, size: int
) -> tuple[Tensor, Tensor]:
    """Cut the patches of one part out of pictures, row by row, picture after picture.

    The right fifth of each picture is the test part and the rest trains (`split_block`), so no
    pixel is in both. The test patches tile their region without overlap; the training patches lie 8
    pixels apart.

    Args:
        name: What errors call the source.
        pictures: uint8 [H, W, C] each; the place in the list is the label.
        split: The part to cut.
        size: Side of a patch; it has to fit into the test part of every picture.

    Returns:
        Patches, uint8 [N, C, size, size], and the picture of each, int64 [N].

    Raises:
        ValueError: `size` is out of range.

    Example:
        >>> picture = np.zeros((20, 50, 1), dtype=np.uint8)  # 40 columns train, 10 test
        >>> [len(cut_patches("zeros", [picture], part, 4)[0]) for part in ("train", "test")]
        [15, 10]
    """
    sides = [(len(picture), len(split_block(picture.shape[1], "test"))) for picture in pictures]
    max_size = min(min(side) for side in sides)
    if not 1 <= size <= max_size:
        raise ValueError(
            f'load_images("{name}"): image_size = {size}, expected 1 to {max_size}, the width of '
            "the test part"
        )
    parts = [_patches(picture, split, size) for picture in pictures]
    labels = [torch.full((len(part),), label) for label, part in enumerate(parts)]
    return torch.cat(parts), torch.cat(labels)


def _patches(picture: np.ndarray, split: Split, size: int) -> Tensor:
    columns = split_block(picture.shape[1], split)
    region = np.ascontiguousarray(picture[:, columns.start : columns.stop])
    stride = _TRAIN_STRIDE if split == "train" else size
    pixels = torch.from_numpy(region).permute(2, 0, 1)
    windows = pixels.unfold(1, size, stride).unfold(2, size, stride)  # [C, rows, columns, H, W]
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, len(pixels), size, size)
