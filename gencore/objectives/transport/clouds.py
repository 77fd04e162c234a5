"""What functions of two weighted point clouds ask of their arguments, once each."""

import math
from typing import get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops import CostExponent
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["check_clouds", "check_exponent", "check_power", "cloud_weights"]


def check_exponent(owner: str, p: float) -> None:
    """Raise a ValueError unless p is 1 or 2."""
    check_choice(owner, "p", p, get_args(CostExponent))


def check_power(owner: str, p: float) -> None:
    """Raise a ValueError unless p is finite and 1 or more."""
    if not 1 <= p < math.inf:
        raise ValueError(f"{owner}: p is {p}; expected a finite number, 1 or more")


def check_clouds(owner: str, x: Tensor, y: Tensor, *, batched: bool = False) -> None:
    """Raise unless these are two clouds of points of one space, [N, D] and [M, D].

    Args:
        owner: the name that the error begins with.
        x, y: the clouds.
        batched: whether [B, N, D] and [B, M, D] will do, too.
    """
    if x.dtype != y.dtype or not x.is_floating_point():
        raise TypeError(
            f"{owner}: x and y are {x.dtype} and {y.dtype}; expected one floating dtype"
        )
    if x.device != y.device:
        raise ValueError(f"{owner}: x is on {x.device}, y on {y.device}; expected one device")
    fits = (
        (x.dim() == 2 or (batched and x.dim() == 3))
        and (x.dim() == y.dim() and x.shape[:-2] == y.shape[:-2] and x.shape[-1] == y.shape[-1])
        and min(x.numel(), y.numel()) > 0
    )
    if not fits:
        or_batched = ", or [B, N, D] and [B, M, D]" if batched else ""
        raise ValueError(
            f"{owner}: x and y have shapes {list(x.shape)} and {list(y.shape)}; expected [N, D] "
            f"and [M, D]{or_batched}, not empty"
        )
    for name, points in (("x", x), ("y", y)):
        if not points.detach().isfinite().all():
            raise ValueError(f"{owner}: {name} holds NaN or infinite values")


def cloud_weights(owner: str, name: str, weights: Tensor | None, points: Tensor) -> Tensor:
    """Weights of points [..., N, D], checked, in the dtype that sums are made in: [..., N].

    Their sum is 1 to the rounding of that dtype, whatever they were made in: two clouds of unequal
    sums have no plan.

    Raises:
        ValueError: for another shape, a negative weight, or weights that do not sum to 1.
    """
    shape, dtype = points.shape[:-1], accumulation_dtype(points)
    if weights is None:
        return torch.full(shape, 1 / shape[-1], dtype=dtype, device=points.device)
    if weights.shape != shape:
        raise ValueError(
            f"{owner}: {name} has shape {list(weights.shape)}; expected {list(shape)}, a weight a "
            "point"
        )
    weights = weights.to(points.device, dtype)
    total = weights.detach().sum(-1)
    # Sums of float32 weights are off by more than their rounding where they were made in float32.
    if not (weights.detach() >= 0).all() or not ((total - 1).abs() <= 1e-4).all():
        raise ValueError(
            f"{owner}: {name} sum to {total.tolist()}, the smallest is {weights.min().item():g}; "
            "expected weights that are not negative and sum to 1"
        )
    return weights / total[..., None]
