"""Pairs of images on one scale, and means over the part of them that a mask leaves."""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Masked", "checked_pair", "masked_mean"]

Masked = Literal["restrict", "blank"]


def checked_pair(
    function: str,
    prediction: Tensor,
    target: Tensor,
    data_range: float | None,
    mask: Tensor | None,
    masked: Masked,
) -> tuple[Tensor, Tensor, float, Tensor | None]:
    """Both images in float64, the data range, and the mask that means are restricted to.

    A mask of "blank" is used up here: it sets both images to zero outside.
    """
    if prediction.ndim != 4 or prediction.shape != target.shape or prediction.numel() == 0:
        raise ValueError(
            f"{function}: prediction has shape {tuple(prediction.shape)} and target "
            f"{tuple(target.shape)}, expected [B, C, H, W] twice and not empty"
        )
    if prediction.dtype != target.dtype:
        raise TypeError(
            f"{function}: prediction is {prediction.dtype} and target {target.dtype}, expected one "
            "dtype"
        )
    if not (prediction.is_floating_point() or prediction.dtype == torch.uint8):
        raise TypeError(
            f"{function}: images are {prediction.dtype}, expected uint8 or floating point"
        )
    if data_range is None:
        data_range = 255.0 if prediction.dtype == torch.uint8 else 1.0
    if not data_range > 0:
        raise ValueError(f"{function}: data_range = {data_range}, expected a positive number")
    if masked not in ("restrict", "blank"):
        raise ValueError(f"{function}: masked is {masked!r}, expected 'restrict' or 'blank'")
    x, y = prediction.double(), target.double()
    if mask is None:
        return x, y, data_range, None
    batch, _, height, width = x.shape
    if mask.dtype != torch.bool or mask.shape not in ((batch, height, width), (height, width)):
        raise ValueError(
            f"{function}: mask is {mask.dtype} of shape {tuple(mask.shape)}, expected bool of "
            f"shape ({batch}, {height}, {width}) or ({height}, {width})"
        )
    mask = mask.to(x.device).expand(batch, height, width)[:, None]
    if masked == "blank":
        return x * mask, y * mask, data_range, None
    return x, y, data_range, mask


def masked_mean(function: str, values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean [B] of values [B, C, H, W], over the pixels of the mask [B, 1, H, W] if there is one."""
    if mask is None:
        return values.mean((1, 2, 3))
    count = mask.sum((1, 2, 3))
    if (count == 0).any():
        raise ValueError(f"{function}: the mask leaves no pixel of image {int(count.argmin())}")
    return torch.where(mask, values, 0.0).sum((1, 2, 3)) / (count * values.shape[1])
