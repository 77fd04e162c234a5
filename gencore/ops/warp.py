"""Backward warping of images by a field of displacements."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_state

__all__ = ["WarpMode", "WarpPadding", "warp"]

WarpMode = Literal["bilinear"]
WarpPadding = Literal["zeros", "border"]

_ops = torch.ops.gencore


def warp(
    x: Tensor, flow: Tensor, *, mode: WarpMode = "bilinear", padding: WarpPadding = "zeros"
) -> Tensor:
    r"""Images sampled at their pixels plus a displacement in pixels.

    .. math:: y_{n,c}(p) = \tilde x_{n,c}(p + \delta_n(p)), \qquad \tilde x(q) =
              \sum_{p'} x(p') \max(0, 1 - |q_1 - p'_1|) \max(0, 1 - |q_2 - p'_2|)

    with the bilinear interpolant x̃ of an image and the displacement δ of each pixel. Backward
    warping: the displacement says where a pixel comes from. A displacement of zero gives the pixel
    bit for bit, whole ones give others so, and a constant image stays what it is. Differentiable in
    ``x`` and ``flow``, to any order; at whole displacements, where x̃ has a kink, the derivative is
    that towards larger ones. Gradients are the same bit for bit for any number of threads, and on a
    GPU from run to run.

    Args:
        x: images [N, C, H, W], float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        flow: δ [N, 2, H, W], to the right in channel 0 and down in channel 1, in pixels; of the
            dtype of ``x``, or float32 where that is a half type.
        mode: how to interpolate: ``"bilinear"``.
        padding: what is outside of an image: ``"zeros"``, or ``"border"``, its nearest pixel.

    Returns:
        y, like ``x``. A displacement of NaN gives NaN. On CUDA a displacement of NaN, or a gradient
        that is not finite, makes the gradient of its whole plane NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial transformer networks", 2015,
        eq. (5). :func:`torch.nn.functional.grid_sample` with ``align_corners=True`` is the same
        function of positions that run from −1 to 1.

    Example:
        >>> import torch
        >>> from gencore.ops import warp
        >>> x = torch.tensor([[[[1.0, 2.0, 4.0]]]])
        >>> flow = torch.zeros(1, 2, 1, 3)
        >>> flow[:, 0] = 0.5  # half a pixel from the right
        >>> warp(x, flow), warp(x, flow, padding="border")
        (tensor([[[[1.5000, 3.0000, 2.0000]]]]), tensor([[[[1.5000, 3.0000, 4.0000]]]]))
    """
    op = "warp"
    check_state(op, x)
    check_choice(op, "mode", mode, get_args(WarpMode))
    check_choice(op, "padding", padding, get_args(WarpPadding))
    _check_flow(op, x, flow)
    flow = flow.to(accumulation_dtype(x))
    border = padding == "border"
    if state.reference:
        return _reference(x, flow, border)
    result: Tensor = _warp(x, flow, border)
    return result


def _check_flow(op: str, x: Tensor, flow: Tensor) -> None:
    check_state(op, flow, "flow")
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W]")
    expected = [x.shape[0], 2, *x.shape[2:]]
    if list(flow.shape) != expected:
        raise ValueError(
            f"{op}: flow has shape {list(flow.shape)}, expected {expected} for x of shape "
            f"{list(x.shape)}"
        )
    if flow.dtype not in (x.dtype, accumulation_dtype(x)):
        raise TypeError(
            f"{op}: flow is {flow.dtype}, expected {accumulation_dtype(x)}, x: {x.dtype}"
        )
    if flow.device != x.device:
        raise ValueError(f"{op}: flow is on {flow.device}, x on {x.device}")
    if max(x.shape[2:]) > 2**24 or x.shape[2] * x.shape[3] >= 2**31:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected sides of at most 2**24")


def _reference(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    """``warp`` in pure PyTorch."""
    height, width = x.shape[2:]
    if x.numel() == 0:
        return x + 0 * flow[:, :1].to(x.dtype)  # no element, but a graph
    image = x.to(flow.dtype).flatten(2)
    places = torch.arange(max(height, width), device=x.device)
    left, right = _axis(flow[:, 0], places[:width], border)
    up, down = _axis(flow[:, 1], places[:height, None], border)
    right, down = right.unsqueeze(1), down.unsqueeze(1)

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        index = place.flatten(1).unsqueeze(1).expand(-1, image.shape[1], -1)
        values = image.gather(2, index).view(x.shape)
        if border:
            return values
        outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
        return values.masked_fill(outside.unsqueeze(1), 0.0)

    def across(row: Tensor) -> Tensor:
        a = pixels(row, left)
        return a + right * (pixels(row, left + 1) - a)

    above = across(up)
    return (above + down * (across(up + 1) - above)).to(x.dtype)


def _axis(flow: Tensor, at: Tensor, border: bool) -> tuple[Tensor, Tensor]:
    """The pixel before each sample along one dimension, and how far the sample is from there."""
    last, margin = at.numel() - 1, 0 if border else 2
    bounded = flow.clamp(-at - margin, last - at + margin)
    whole = bounded.detach().floor()
    return at + whole.nan_to_num().long(), bounded - whole


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, flow, ctx.border = inputs
    ctx.save_for_backward(x, flow)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    grads = _backward(grad, *ctx.saved_tensors, ctx.border, *needs)
    return *(g if need else None for g, need in zip(grads, needs, strict=True)), None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *operands, ctx.border, needs_x, needs_flow = inputs
    ctx.needs = (needs_x, needs_flow)
    ctx.save_for_backward(*operands)


def _differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(grad: Tensor, x: Tensor, flow: Tensor) -> list[Tensor | None]:
        wanted = [t if need else None for t, need in zip((x, flow), ctx.needs, strict=True)]
        return gradients([_reference(x, flow, ctx.border)], wanted, [grad])

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * 3


_warp = differentiable(_ops.warp.default, _differentiate, _setup)
_backward = differentiable(_ops.warp_backward.default, _differentiate_backward, _backward_setup)


# Shapes of their results.


@torch.library.register_fake("gencore::warp")
def _(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("gencore::warp_backward")
def _(
    grad: Tensor, x: Tensor, flow: Tensor, border: bool, needs_x: bool, needs_flow: bool
) -> tuple[Tensor, ...]:
    return (
        x.new_empty(x.shape if needs_x else (0,)),
        flow.new_empty(flow.shape if needs_flow else (0,)),
    )
