"""Trading image size for channels."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["squeeze2d", "unsqueeze2d"]


def squeeze2d(x: Tensor, factor: int = 2) -> Tensor:
    """[N, C, H, W] → [N, C·f², H/f, W/f]: channel (c·f + i)·f + j holds x[:, c, i::f, j::f]."""
    return F.pixel_unshuffle(x, factor)


def unsqueeze2d(x: Tensor, factor: int = 2) -> Tensor:
    """The inverse of :func:`squeeze2d`."""
    return F.pixel_shuffle(x, factor)
