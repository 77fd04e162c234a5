"""Bits per dimension of what gives levels themselves a probability."""

import math
from collections.abc import Sequence

from torch import Tensor

from gencore.metrics import bits_per_dim

__all__ = ["level_bits"]


def level_bits(log_prob: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Bits per dimension of images of `image_shape` [C, H, W], of log-probabilities of their
    levels, or lower bounds of these, in nats.

    Example:
        >>> import math, torch
        >>> level_bits(torch.tensor([-12 * math.log(2)]), (3, 2, 2))
        tensor([1.])
    """
    return bits_per_dim(log_prob, math.prod(image_shape), bins=1)
