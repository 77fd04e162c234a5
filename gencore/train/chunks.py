"""Many rows in bounded memory: a few at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["chunks", "in_chunks"]


def chunks(num: int, size: int) -> list[slice]:
    """The rows 0 … num − 1 in slices of `size`, the last of what is left; of no rows an empty one.

    Example:
        >>> chunks(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(first, min(first + size, num)) for first in range(0, num, size)] or [slice(0, 0)]


def in_chunks(function: Callable[[Tensor], Tensor], size: int) -> Callable[[Tensor], Tensor]:
    """The same function of many rows, computed for `size` of them at a time, without a graph."""

    @torch.no_grad()
    def call(x: Tensor) -> Tensor:
        return torch.cat([function(x[rows]) for rows in chunks(len(x), size)])

    return call
