"""Conversions of pixels: number format, size, and number of channels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["convert_channels", "luma", "resize_images", "to_float", "to_uint8"]

# ITU-R BT.601 luma, the weights of every common grey-scale conversion.
_LUMA = (0.299, 0.587, 0.114)

# Images converted at a time, so that the floating-point copy of a large set stays small.
_CHUNK = 4096


def to_float(images: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Map the levels 0…255 linearly onto [low, high]: low + (high − low)·x/255.

    Args:
        images: uint8, any shape.
        low: The value of level 0.
        high: The value of level 255.

    Returns:
        float32, the same shape.

    Raises:
        TypeError: `images` is not uint8.
        ValueError: `low` is not below `high`.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8), low=-1.0)
        tensor([-1.0000, -0.6000,  1.0000])
    """
    _check_range("to_float", low, high)
    if images.dtype != torch.uint8:
        raise TypeError(f"to_float: images are {images.dtype}, expected torch.uint8")
    return images.float().div_(255).mul_(high - low).add_(low)


def to_uint8(images: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Map [low, high] onto the nearest of the levels 0…255; values outside saturate.

    It undoes `to_float` exactly.

    Args:
        images: Floating point, any shape.
        low: The value that becomes level 0.
        high: The value that becomes level 255.

    Returns:
        uint8, the same shape.

    Raises:
        TypeError: `images` is not floating point.
        ValueError: `low` is not below `high`, or a value is NaN.

    Example:
        >>> to_uint8(torch.tensor([-0.5, 0.2, 1.0]))
        tensor([  0,  51, 255], dtype=torch.uint8)
    """
    _check_range("to_uint8", low, high)
    if not images.is_floating_point():
        raise TypeError(f"to_uint8: images are {images.dtype}, expected floating point")
    if images.isnan().any():
        raise ValueError(
            f"to_uint8: {int(images.isnan().sum())} of {images.numel()} values are NaN"
        )
    # Half precision cannot hold 255 levels apart once they are scaled.
    levels = (images.detach().to(torch.float32) - low) * (255 / (high - low))
    return levels.round_().clamp_(0, 255).to(torch.uint8)


def resize_images(images: Tensor, size: int) -> Tensor:
    """Scale the shorter side to `size` and cut out the central square.

    The filter is bilinear, widened by the scale when it shrinks (antialiased). Images that have
    the size already come back untouched.

    Args:
        images: uint8 [N, C, H, W].
        size: Side of the square in pixels.

    Returns:
        uint8 [N, C, size, size].

    Example:
        >>> resize_images(torch.full((2, 3, 10, 7), 9, dtype=torch.uint8), 5).shape
        torch.Size([2, 3, 5, 5])
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    shorter = min(height, width)
    # Half a pixel up; the shorter side becomes `size` exactly.
    scaled = [(2 * side * size + shorter) // (2 * shorter) for side in (height, width)]
    top, left = ((side - size) // 2 for side in scaled)

    def resize(levels: Tensor) -> Tensor:
        levels = interpolate(
            levels, size=scaled, mode="bilinear", antialias=True, align_corners=False
        )
        return levels[..., top : top + size, left : left + size]

    return _convert(images, resize)


def convert_channels(images: Tensor, channels: int) -> Tensor:
    """Make grey images of RGB ones (0.299 R + 0.587 G + 0.114 B) or RGB of grey (three copies).

    Args:
        images: uint8 [N, C, H, W] with C = 1 or 3.
        channels: 1 or 3.

    Returns:
        uint8 [N, channels, H, W].

    Example:
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> convert_channels(red, 1).item()
        76
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return _convert(images, luma)


def luma(images: Tensor) -> Tensor:
    """Grey [N, 1, H, W] of floating point images [N, C, H, W] with C = 1 or 3."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _convert(images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of float levels to uint8 images, a chunk at a time, and round."""
    parts = (function(part.float()) for part in torch.split(images, _CHUNK))
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def _check_range(function: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{function}: low = {low} must be below high = {high}")
