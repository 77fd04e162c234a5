"""Pairs of an image and of what it is to become, made of images."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from gencore.data import to_float
from gencore.data.images.pixels import luma
from gencore.nn import block_mean
from gencore.recipes.adversarial.pix2pix import PairTask

__all__ = ["Pairs", "make_pairs"]

_SMALLER = 4


class Pairs(NamedTuple):
    """Images side by side, with pixels in [−1, 1]."""

    given: Tensor
    """[N, C, H, W]."""
    wanted: Tensor
    """What they are to become, [N, C', H, W]."""


def make_pairs(task: PairTask, images: Tensor) -> Pairs:
    """The pairs of a task.

    Given are: for colours the luma; for details means of 4×4 pixels, enlarged by bilinear weights;
    for edges the length of the gradient of the luma, by Sobel's filters, from −1 for none to 1 for
    the steepest step from black to white along an axis; for the others one half of each image.

    Args:
        task: one of those of the recipe.
        images: uint8 [N, C, H, W].

    Raises:
        ValueError: for images that the task cannot use.

    Example:
        >>> images = torch.zeros(2, 3, 8, 16, dtype=torch.uint8)
        >>> [tuple(part.shape) for part in make_pairs("colours", images)]
        [(2, 1, 8, 16), (2, 3, 8, 16)]
        >>> [tuple(part.shape) for part in make_pairs("left-to-right", images)]
        [(2, 3, 8, 8), (2, 3, 8, 8)]
    """
    channels, height, width = images.shape[1:]
    if task == "colours" and channels != 3:
        raise ValueError(f"the task colours needs images of 3 channels, got {channels}")
    if task == "details" and (height % _SMALLER or width % _SMALLER):
        raise ValueError(
            f"the task details needs images with sides that are multiples of {_SMALLER}, got "
            f"{height} x {width}"
        )
    if task in ("left-to-right", "right-to-left") and width % 2:
        raise ValueError(f"the task {task} needs images of an even width, got {width}")
    y = to_float(images, -1, 1)
    match task:
        case "colours":
            return Pairs(luma(y), y)
        case "details":
            small = block_mean(y, _SMALLER)
            return Pairs(interpolate(small, scale_factor=_SMALLER, mode="bilinear"), y)
        case "edges":
            return Pairs(_edges(luma(y)), y)
        case "left-to-right":
            left, right = y.chunk(2, 3)
            return Pairs(left.contiguous(), right.contiguous())
        case "right-to-left":
            left, right = y.chunk(2, 3)
            return Pairs(right.contiguous(), left.contiguous())


def _edges(grey: Tensor) -> Tensor:
    filters = grey.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    weight = torch.stack([filters, filters.T])[:, None]
    slopes = conv2d(pad(grey, (1, 1, 1, 1), mode="replicate"), weight)
    return slopes.norm(dim=1, keepdim=True).clamp(max=2) - 1
