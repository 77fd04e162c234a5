"""What models of levels ask of their images."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_levels"]


def check_levels(owner: str, x: Tensor, image_shape: Sequence[int], levels: int) -> None:
    """Raise unless x holds images of a shape, of levels 0 … levels − 1.

    Args:
        owner: the name that the error begins with.
        x: what was given; expected [N, *image_shape], uint8 or int64.
        image_shape: [C, H, W].
        levels: how many there are.

    Raises:
        TypeError: for x of another dtype.
        ValueError: for x of another shape, or with levels that there are none of.

    Example:
        >>> import torch
        >>> check_levels("VQVAE", torch.full((1, 1, 2, 2), 16), (1, 2, 2), 16)
        Traceback (most recent call last):
            ...
        ValueError: VQVAE: x has levels from 16 to 16; expected 0 to 15
    """
    if not isinstance(x, Tensor) or x.dtype not in (torch.uint8, torch.int64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{owner}: x is {kind}; expected levels, uint8 or int64")
    if x.dim() != 4 or x.shape[1:] != torch.Size(image_shape):
        expected = ["N", *image_shape]
        raise ValueError(f"{owner}: x has shape {list(x.shape)}; expected {expected}")
    # As Python's numbers: to uint8, 256 is 0.
    low, high = map(int, x.aminmax()) if x.numel() else (0, 0)
    if low < 0 or high >= levels:
        raise ValueError(f"{owner}: x has levels from {low} to {high}; expected 0 to {levels - 1}")
