"""Images of two grids: block means down, constant blocks up, the pseudo-inverses of each other."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gencore.ops._support.checks import index

__all__ = ["Factor", "block_any", "block_expand", "block_mean"]

Factor = int | tuple[int, int]
"""Pixels of the finer grid that a pixel of the coarser one covers, along both axes or (H, W)."""


def block_mean(x: Tensor, factor: Factor) -> Tensor:
    r"""Scale images down: a coarse pixel is the mean of the d × d fine ones that it covers.

    .. math:: (Dx)_{ij} = \frac{1}{d^2} \sum_{a, b = 0}^{d - 1} x_{di + a,\, dj + b}

    D is the pseudo-inverse of `block_expand`, U: DU = I to the last bit, UD is the orthogonal
    projection onto images that are constant on blocks, and Dᵀ = U/d².

    Args:
        x: [N, C, H, W], floating point.
        factor: d, or (d_H, d_W) for blocks that are no squares.

    Returns:
        [N, C, H/d, W/d].

    Raises:
        TypeError: `x` is not floating point, or d is no integer.
        ValueError: `x` has another number of axes, d is below 1 or does not divide the sides.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[0.0, 2.0, 5.0, 5.0], [4.0, 6.0, 5.0, 5.0]]]])
        >>> block_mean(x, 2)
        tensor([[[[3., 5.]]]])

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.2.2.
    """
    height, width = _blocks("block_mean", x, factor)
    if not x.is_floating_point():
        raise TypeError(f"block_mean: x is {x.dtype}; expected floating point")
    # The mean of equal numbers, added up, is not that number. Of their differences from the first
    # one it is.
    corner = x[..., ::height, ::width]
    return corner + avg_pool2d(x - block_expand(corner, (height, width)), (height, width))


def block_expand(x: Tensor, factor: Factor) -> Tensor:
    r"""Scale images up: each pixel becomes a block of d × d equal ones.

    .. math:: (Ux)_{di + a,\, dj + b} = x_{ij}, \qquad 0 \le a, b < d

    Args:
        x: [N, C, H, W].
        factor: d, or (d_H, d_W).

    Returns:
        [N, C, d·H, d·W].

    Raises:
        TypeError, ValueError: as `block_mean`, but that d always fits.

    Example:
        >>> import torch
        >>> block_expand(torch.tensor([[[[3.0, 5.0]]]]), (1, 2))
        tensor([[[[3., 3., 5., 5.]]]])
    """
    height, width = _pair("block_expand", x, factor)
    return x.repeat_interleave(height, -2).repeat_interleave(width, -1)


def block_any(mask: Tensor, factor: Factor) -> Tensor:
    """Scale masks down: a coarse pixel is marked where one of the fine ones that it covers is.

    Args:
        mask: bool [N, C, H, W].
        factor: d, or (d_H, d_W).

    Returns:
        bool [N, C, H/d, W/d].

    Raises:
        TypeError: `mask` is not bool.
        ValueError: as `block_mean`.

    Example:
        >>> import torch
        >>> block_any(torch.tensor([[[[True, False, False, False]]]]), (1, 2))
        tensor([[[[ True, False]]]])
    """
    height, width = _blocks("block_any", mask, factor)
    if mask.dtype != torch.bool:
        raise TypeError(f"block_any: mask is {mask.dtype}; expected bool")
    blocks = mask.unflatten(-1, (-1, width)).unflatten(-3, (-1, height))
    return blocks.any(-1).any(-2)


def _pair(name: str, x: Tensor, factor: Factor) -> tuple[int, int]:
    height, width = factor if isinstance(factor, tuple) else (factor, factor)
    height, width = index(name, "factor", height), index(name, "factor", width)
    if height < 1 or width < 1:
        raise ValueError(f"{name}: factor is {factor}; expected 1 or more")
    if x.dim() != 4:
        raise ValueError(f"{name}: got images of shape {list(x.shape)}; expected [N, C, H, W]")
    return height, width


def _blocks(name: str, x: Tensor, factor: Factor) -> tuple[int, int]:
    height, width = _pair(name, x, factor)
    if x.shape[-2] % height or x.shape[-1] % width:
        raise ValueError(
            f"{name}: images of {x.shape[-2]}x{x.shape[-1]} have no whole number of blocks of "
            f"{height}x{width}; expected a factor that divides both sides"
        )
    return height, width
