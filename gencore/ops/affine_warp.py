"""Backward warping by an affine map of the plane."""

from typing import get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.checks import accumulation_dtype, check_state
from gencore.ops.warp import WarpPadding, warp

__all__ = ["affine_warp"]


def affine_warp(x: Tensor, matrix: Tensor, *, padding: WarpPadding = "zeros") -> Tensor:
    r"""Images sampled at an affine map of their pixels, about the image's centre.

    .. math:: y_n(p) = \tilde x_n(A_n (p - c) + t_n + c)

    with the bilinear interpolant x̃ of an image, the matrix [A | t] and the centre
    c = ((W − 1)/2, (H − 1)/2) of places (column, row). Backward warping: the map says where a pixel
    comes from. What is added to a place is computed, and not the place itself: the identity gives
    every pixel bit for bit, and so do translations by whole pixels. Differentiable in ``x`` and
    ``matrix``, to any order, as :func:`warp` is.

    Args:
        x: images [N, C, H, W], float64, float32, bfloat16 or float16.
        matrix: [A | t] [N, 2, 3], float32 or float64, t to the right and down in pixels.
        padding: what is outside of an image: ``"zeros"``, or ``"border"``, its nearest pixel.

    Returns:
        y, like ``x``.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial transformer networks", 2015,
        eq. (1).

    Example:
        >>> import torch
        >>> from gencore.ops import affine_warp
        >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> affine_warp(x, torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]))  # a quarter turn
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    op = "affine_warp"
    check_state(op, x)
    check_state(op, matrix, "matrix")
    check_choice(op, "padding", padding, get_args(WarpPadding))
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W]")
    if list(matrix.shape) != [x.shape[0], 2, 3]:
        raise ValueError(
            f"{op}: matrix has shape {list(matrix.shape)}, expected {[x.shape[0], 2, 3]} for x of "
            f"shape {list(x.shape)}"
        )
    if matrix.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{op}: matrix is {matrix.dtype}, expected float32 or float64")
    if matrix.device != x.device:
        raise ValueError(f"{op}: matrix is on {matrix.device}, x on {x.device}")
    flow = _displacement(matrix, *x.shape[2:])
    return warp(x, flow.to(accumulation_dtype(x)), padding=padding)


def _displacement(matrix: Tensor, height: int, width: int) -> Tensor:
    """(A − 1)(p − c) + t at every pixel, [N, 2, H, W]."""
    row = torch.arange(height, device=matrix.device).to(matrix) - (height - 1) / 2
    column = torch.arange(width, device=matrix.device).to(matrix) - (width - 1) / 2
    places = torch.stack([column.expand(height, width), row[:, None].expand(height, width)], -1)
    change = matrix[..., :2] - torch.eye(2, dtype=matrix.dtype, device=matrix.device)
    return torch.einsum("nij,hwj->nihw", change, places) + matrix[..., 2, None, None]
