"""Forward warping: what each pixel gives to the places that it moves to."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.autograd import differentiable
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_accumulated, check_state

__all__ = ["SplatMode", "splat"]

SplatMode = Literal["sum", "softmax"]

_ops = torch.ops.gencore


def splat(
    x: Tensor, flow: Tensor, *, mode: SplatMode = "sum", importance: Tensor | None = None
) -> Tensor:
    r"""Images whose pixels have moved by a displacement in pixels: forward warping.

    .. math:: y_{n,c}(q) = \sum_p x_{n,c}(p)\, k(q - p - \delta_n(p)), \qquad
              k(d) = \max(0, 1 - |d_1|) \max(0, 1 - |d_2|)

    for ``mode="sum"``: a pixel is shared out among the four places around its target, and what
    leaves the image is lost. This is the adjoint of :func:`warp` with zeros outside,
    ⟨g, splat(x, δ)⟩ = ⟨warp(g, δ), x⟩. For ``mode="softmax"`` a place has the mean of what lands
    there, weighted by the pixels' importance Z, and 0 where nothing does:

    .. math:: y(q) = \frac{\sum_p e^{Z(p)} x(p)\, k(q - p - \delta(p))}
                          {\sum_p e^{Z(p)} k(q - p - \delta(p))}

    A pixel of much higher importance covers the others. Each place's largest importance is taken
    off before the exponential, so that none is too large or too small. Differentiable in ``x``,
    ``flow`` and ``importance``, to any order; gradients at whole displacements are those of
    :func:`warp`.

    Args:
        x: images [N, C, H, W], float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        flow: δ [N, 2, H, W], to the right in channel 0 and down in channel 1, in pixels; of the
            dtype of ``x``, or float32 where that is a half type.
        mode: ``"sum"`` or ``"softmax"``.
        importance: Z [N, 1, H, W], of a dtype that ``flow`` may have; for ``"softmax"`` alone.

    Returns:
        y, like ``x``.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Niklaus and Liu, "Softmax splatting for video frame interpolation", 2020,
        section 3.1.

    Example:
        >>> import torch
        >>> from gencore.ops import splat
        >>> x = torch.tensor([[[[1.0, 2.0, 4.0]]]])
        >>> flow = torch.zeros(1, 2, 1, 3)
        >>> flow[0, 0, 0, 0] = 1.0  # the first pixel moves onto the second
        >>> splat(x, flow)
        tensor([[[[0., 3., 4.]]]])
        >>> importance = torch.tensor([[[[3.0, 0.0, 0.0]]]]).log()  # and counts for all there
        >>> splat(x, flow, mode="softmax", importance=importance)
        tensor([[[[0., 1., 0.]]]])
    """
    op = "splat"
    check_state(op, x)
    check_choice(op, "mode", mode, get_args(SplatMode))
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W]")
    if max(x.shape[2:]) > 2**24 or x.shape[2] * x.shape[3] >= 2**31:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected sides of at most 2**24")
    _check_field(op, x, flow, "flow", 2)
    wide = accumulation_dtype(x)
    if mode == "sum":
        if importance is not None:
            raise ValueError(f"{op}: importance was given, which mode='sum' has no use for")
        return _laid_out_as(x, _sum(x, flow.to(wide)))
    if importance is None:
        raise ValueError(f"{op}: mode='softmax' needs importance, got None")
    _check_field(op, x, importance, "importance", 1)
    y = _softmax(x.to(wide), flow.to(wide), importance.to(wide))
    return _laid_out_as(x, y.to(x.dtype))


def _check_field(op: str, x: Tensor, field: Tensor, name: str, channels: int) -> None:
    check_state(op, field, name)
    expected = [x.shape[0], channels, *x.shape[2:]]
    if list(field.shape) != expected:
        raise ValueError(
            f"{op}: {name} has shape {list(field.shape)}, expected {expected} for x of shape "
            f"{list(x.shape)}"
        )
    check_accumulated(op, x, field, name)


def _laid_out_as(x: Tensor, y: Tensor) -> Tensor:
    return y if x.is_contiguous() else torch.empty_like(x).copy_(y)


def _sum(x: Tensor, flow: Tensor) -> Tensor:
    if state.reference:
        return _reference(x, flow)
    result: Tensor = _splat(x, flow)
    return result


def _reference(x: Tensor, flow: Tensor) -> Tensor:
    """``splat`` with sums in pure PyTorch."""
    image = x.to(flow.dtype)
    y = torch.zeros_like(image.flatten(2))
    for share, whole in _shares(flow):
        place, inside = _places(whole)
        given = (image * share.masked_fill(~inside, 0.0)).flatten(2)
        y = y.scatter_add(2, place.flatten(2).expand(-1, x.shape[1], -1), given)
    return y.view(x.shape).to(x.dtype)


def _softmax(x: Tensor, flow: Tensor, importance: Tensor) -> Tensor:
    """Each place has an exponent of its own, so that the four parts of the pixels are splatted one
    after the other, with weights that their places decide."""
    parts = []
    for share, whole in _shares(flow):
        place, inside = _places(whole)
        parts.append((share, whole, place.flatten(1), inside & (share.detach() > 0)))
    with torch.no_grad():
        largest = importance.new_full((x.shape[0], x.shape[2] * x.shape[3]), -torch.inf)
        for _, _, place, lands in parts:
            candidates = importance.masked_fill(~lands, -torch.inf).flatten(1)
            largest = largest.scatter_reduce(1, place, candidates, "amax")
        largest = largest.masked_fill(largest == -torch.inf, 0.0)
    total = x.new_zeros(())
    for share, whole, place, lands in parts:
        exponent = importance - largest.gather(1, place).view_as(importance)
        weight = share * exponent.masked_fill(~lands, -torch.inf).exp()
        total = total + _sum(torch.cat([x * weight, weight], 1), whole)
    value, weight = total[:, :-1], total[:, -1:]
    return value / weight.masked_fill(weight == 0, 1.0)


def _shares(flow: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The four places that a pixel is shared out among: how much each has, [N, 1, H, W], and its
    displacement in whole pixels, [N, 2, H, W]."""
    height, width = flow.shape[2:]
    right, down = (
        axis.clamp(-at - 2, size + 1 - at)  # beyond two pixels outside all is lost
        for axis, at, size in (
            (flow[:, :1], torch.arange(width, device=flow.device), width),
            (flow[:, 1:], torch.arange(height, device=flow.device)[:, None], height),
        )
    )
    left, up = (axis.detach().floor() for axis in (right, down))
    right, down = right - left, down - up
    for row, share_down in ((up, 1 - down), (up + 1, down)):
        for column, share_right in ((left, 1 - right), (left + 1, right)):
            yield share_down * share_right, torch.cat([column, row], 1)


def _places(whole: Tensor) -> tuple[Tensor, Tensor]:
    """Where whole displacements lead to, as indices in a plane, and whether that is inside of the
    image, both [N, 1, H, W]."""
    height, width = whole.shape[2:]
    steps = whole.nan_to_num().long()
    column = steps[:, :1] + torch.arange(width, device=whole.device)
    row = steps[:, 1:] + torch.arange(height, device=whole.device)[:, None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return (row * width + column).masked_fill(~inside, 0), inside


# The operator has no kernel of its own: it is the x-gradient of warp, whose derivatives are warp's
# again, since ⟨grad, splat(x, flow)⟩ = ⟨warp(grad, flow), x⟩.

_library = torch.library.Library("gencore", "FRAGMENT")
_library.define("splat(Tensor x, Tensor flow) -> Tensor")


@torch.library.impl(_library, "splat", "CompositeExplicitAutograd")
def _(x: Tensor, flow: Tensor) -> Tensor:
    # The gradient does not depend on the images that were warped, whose place x takes.
    result: Tensor = _ops.warp_backward(x, x, flow, False, True, False)[0]
    return result


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, flow = ctx.saved_tensors
    needs_x, needs_flow = ctx.needs_input_grad
    return (
        _ops.warp(grad, flow, False) if needs_x else None,
        _ops.warp_backward(x, grad, flow, False, False, True)[1] if needs_flow else None,
    )


_splat = differentiable(_ops.splat.default, _differentiate, _setup)


# Shape of its result.


@torch.library.register_fake("gencore::splat")
def _(x: Tensor, flow: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
