"""Forward warping: what each pixel gives to the places that it moves to."""

import math
from typing import Any, Literal, NamedTuple, get_args

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
    for part in _parts(flow):
        given = _given(image, part.share.masked_fill(~part.inside, 0.0)).flatten(2)
        y = y.scatter_add(2, part.place.unsqueeze(1).expand(-1, x.shape[1], -1), given)
    return y.view(x.shape).to(x.dtype)


def _softmax(x: Tensor, flow: Tensor, importance: Tensor) -> Tensor:
    """Each place has an exponent of its own, so that the four parts of the pixels are splatted one
    after the other, with weights that their places decide."""
    parts = _parts(flow)
    lands = [part.inside & (part.share.detach() > 0) for part in parts]
    with torch.no_grad():
        largest = importance.new_full((x.shape[0], x.shape[2] * x.shape[3]), -torch.inf)
        for part, landing in zip(parts, lands, strict=True):
            candidates = importance.masked_fill(~landing, -torch.inf).flatten(1)
            largest = largest.scatter_reduce(1, part.place, candidates, "amax")
        largest = largest.masked_fill(largest == -torch.inf, 0.0)
    total = x.new_zeros(())
    for part, landing in zip(parts, lands, strict=True):
        exponent = importance - largest.gather(1, part.place).view_as(importance)
        weight = part.share * exponent.masked_fill(~landing, -torch.inf).exp()
        total = total + _sum(torch.cat([_given(x, weight), weight], 1), part.whole)
    value, weight = total[:, :-1], total[:, -1:]
    return value / weight.masked_fill(weight == 0, 1.0)


def _given(x: Tensor, share: Tensor) -> Tensor:
    """Their product; no share of a pixel that is not finite is nothing."""
    return torch.where((share == 0) & ~x.isfinite(), 0.0, x) * share


class _Part(NamedTuple):
    """What one of the four places around its target gets of each pixel."""

    share: Tensor
    """The value of the kernel k, [N, 1, H, W]."""
    whole: Tensor
    """The displacement to there in whole pixels, [N, 2, H, W]."""
    place: Tensor
    """Its index in a plane, 0 where it is outside, [N, H W]."""
    inside: Tensor
    """Whether it is inside of the image, [N, 1, H, W]."""


def _parts(flow: Tensor) -> list[_Part]:
    height, width = flow.shape[2:]
    lost = flow.isnan().any(1, keepdim=True)  # along both axes, if along one: at its own place
    flow = flow.masked_fill(lost, math.nan)
    columns = torch.arange(width, device=flow.device)
    rows = torch.arange(height, device=flow.device).unsqueeze(1)
    # Beyond two pixels outside all is lost.
    right = flow[:, :1].clamp(-columns - 2, width + 1 - columns)
    down = flow[:, 1:].clamp(-rows - 2, height + 1 - rows)
    left, up = right.detach().floor(), down.detach().floor()
    right, down = right - left, down - up
    column, row = (step.nan_to_num().long() for step in (left, up))
    column, row = column + columns, row + rows
    parts = []
    for below in (0, 1):
        for beside in (0, 1):
            share = (down if below else 1 - down) * (right if beside else 1 - right)
            at_row, at_column = row + below, column + beside
            inside = (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
            if below or beside:
                inside = inside & ~lost
            place = (at_row * width + at_column).masked_fill(~inside, 0).flatten(1)
            parts.append(_Part(share, torch.cat([left + beside, up + below], 1), place, inside))
    return parts


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
