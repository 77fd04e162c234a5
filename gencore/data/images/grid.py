"""Images laid out side by side, in the levels that a screen shows."""

import math

import torch
from torch import Tensor

__all__ = ["enlarge", "image_grid", "shown_levels"]


def image_grid(images: Tensor, *, columns: int | None = None, gap: int = 1) -> Tensor:
    """Lays images out row by row, with a mid-grey gap between and around them.

    Args:
        images: [N, C, H, W], N ≥ 1.
        columns: images in a row; the smallest square that holds all by default.
        gap: pixels.

    Returns:
        One image [C, rows·(H + gap) + gap, columns·(W + gap) + gap] of the same type.

    Example:
        >>> image_grid(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([1, 19, 19])
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"image_grid: expected images [N, C, H, W], got {tuple(images.shape)}")
    num, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    grey = 0.5 if images.is_floating_point() else 128
    size = (channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    grid = images.new_full(size, grey)
    for index, image in enumerate(images):
        top = (index // columns) * (height + gap) + gap
        left = (index % columns) * (width + gap) + gap
        grid[:, top : top + height, left : left + width] = image
    return grid


def shown_levels(images: Tensor) -> Tensor:
    """Levels 0 … 255 on the CPU: of floating point values in [0, 1] the nearest, of values outside
    the limit, of NaN mid-grey; of uint8 the levels themselves.

    Example:
        >>> shown_levels(torch.tensor([-3.0, 0.2, float("nan"), 2.0]))
        tensor([  0,  51, 128, 255], dtype=torch.uint8)
    """
    if images.dtype == torch.uint8:
        return images.cpu()
    values = images.detach().float().cpu().nan_to_num(0.5)
    return values.clamp(0, 1).mul(255).round().to(torch.uint8)


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Repeats every pixel of [..., H, W] in a square of scale × scale."""
    return images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
