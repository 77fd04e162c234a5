"""Trading image size for channels."""

from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.backend import state
from gencore.ops._support.checks import check_native_device, index

__all__ = ["squeeze2d", "unsqueeze2d"]


def squeeze2d(x: Tensor, factor: int = 2) -> Tensor:
    r"""Every block of factor × factor pixels as one pixel of factor² times the channels.

    .. math:: y_{n,\,(c f + i) f + j,\,h,\,w} = x_{n,\,c,\,h f + i,\,w f + j}

    with the factor f: the order of :func:`torch.nn.functional.pixel_unshuffle`. A permutation of
    the elements, so its log-determinant is 0. Differentiable to any order.

    Args:
        x: [N, C, H, W], of any dtype.
        factor: f ≥ 1, which divides H and W.

    Returns:
        [N, C·f², H/f, W/f], contiguous.

    Raises:
        TypeError: if ``x`` is not a tensor or ``factor`` no integer.
        ValueError: for a shape or a factor that does not fit.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, section 3.6.

    Example:
        >>> import torch
        >>> from gencore.ops import squeeze2d
        >>> squeeze2d(torch.arange(4.0).view(1, 1, 2, 2)).flatten()
        tensor([0., 1., 2., 3.])
    """
    op = "squeeze2d"
    factor = _check(op, x, factor)
    height, width = x.shape[2:]
    if height % factor or width % factor:
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, whose height and width must be multiples of "
            f"factor = {factor}"
        )
    if state.reference:
        return _reference(x, factor, inverse=False)
    result: Tensor = _squeeze(x, factor, False)
    return result


def unsqueeze2d(x: Tensor, factor: int = 2) -> Tensor:
    r"""The inverse of :func:`squeeze2d`: factor² channels of a pixel as a block of pixels.

    .. math:: y_{n,\,c,\,h f + i,\,w f + j} = x_{n,\,(c f + i) f + j,\,h,\,w}

    Args:
        x: [N, C·f², H, W], of any dtype.
        factor: f ≥ 1, whose square divides the number of channels.

    Returns:
        [N, C, H·f, W·f], contiguous.

    Raises:
        TypeError: if ``x`` is not a tensor or ``factor`` no integer.
        ValueError: for a shape or a factor that does not fit.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, section 3.6.

    Example:
        >>> import torch
        >>> from gencore.ops import squeeze2d, unsqueeze2d
        >>> x = torch.randn(2, 3, 4, 6)
        >>> torch.equal(unsqueeze2d(squeeze2d(x)), x)
        True
    """
    op = "unsqueeze2d"
    factor = _check(op, x, factor)
    if x.shape[1] % factor**2:
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, whose number of channels must be a multiple of "
            f"factor² = {factor**2}"
        )
    if state.reference:
        return _reference(x, factor, inverse=True)
    result: Tensor = _squeeze(x, factor, True)
    return result


def _check(op: str, x: Tensor, factor: int) -> int:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, got {type(x).__name__}")
    if x.layout != torch.strided:
        raise TypeError(f"{op}: x has layout {x.layout}, expected a strided tensor")
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W]")
    check_native_device(op, x)
    factor = index(op, "factor", factor)
    if not 1 <= factor <= 2**30:
        raise ValueError(f"{op}: factor must be from 1 to 2**30, got {factor}")
    return factor


def _reference(x: Tensor, factor: int, *, inverse: bool) -> Tensor:
    """Both operators in pure PyTorch. Its pixel shuffles refuse empty images."""
    n, c, h, w = x.shape
    if inverse:
        blocks = x.reshape(n, c // factor**2, factor, factor, h, w)
        return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, c // factor**2, h * factor, w * factor)
    blocks = x.reshape(n, c, h // factor, factor, w // factor, factor)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(n, c * factor**2, h // factor, w // factor)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.factor, ctx.inverse = inputs


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _squeeze(grad, ctx.factor, not ctx.inverse), None, None


_squeeze = differentiable(torch.ops.gencore.squeeze2d.default, _differentiate, _setup)


@torch.library.register_fake("gencore::squeeze2d")
def _(x: Tensor, factor: int, inverse: bool) -> Tensor:
    images, channels, height, width = x.shape
    if inverse:
        return x.new_empty(images, channels // factor**2, height * factor, width * factor)
    return x.new_empty(images, channels * factor**2, height // factor, width // factor)
