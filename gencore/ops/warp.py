"""Backward warping of images and volumes by fields of displacements."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_accumulated, check_state

__all__ = ["WarpMode", "WarpPadding", "warp"]

WarpMode = Literal["bilinear"]
WarpPadding = Literal["zeros", "border"]

_ops = torch.ops.gencore


def warp(
    x: Tensor, flow: Tensor, *, mode: WarpMode = "bilinear", padding: WarpPadding = "zeros"
) -> Tensor:
    r"""Images or volumes sampled at their pixels plus a displacement in pixels.

    .. math:: y_{n,c}(p) = \tilde x_{n,c}(p + \delta_n(p)), \qquad \tilde x(q) =
              \sum_{p'} x(p') \prod_a \max(0, 1 - |q_a - p'_a|)

    with the linear interpolant x̃ of an image along each axis a and the displacement δ of each
    pixel. Backward warping: the displacement says where a pixel comes from. A displacement of zero
    gives the pixel bit for bit, whole ones give others so, and a constant image stays what it is.
    Differentiable in ``x`` and ``flow``, to any order; at whole displacements, where x̃ has a kink,
    the derivative is that towards larger ones. It is always deterministic, whatever
    :func:`torch.use_deterministic_algorithms` says: gradients are the same bit for bit for any
    number of threads, and on a GPU from run to run.

    A displacement of NaN makes its pixel of y, of the flow's gradient and of the gradient of ``x``
    NaN, and no other. A pixel's gradient is not finite if that of a sample that reads it is not
    (on CUDA it is NaN then, also where the CPU gives infinity).

    Args:
        x: images [N, C, H, W] or volumes [N, C, D, H, W], float64, float32, bfloat16 or float16.
            Half types are computed in float32 and rounded once.
        flow: δ [N, 2, H, W], to the right in channel 0 and down in channel 1, or for volumes
            [N, 3, D, H, W], deeper in channel 2; in pixels; of the dtype of ``x``, or float32
            where that is a half type. Several fields for each image have a dimension of their own:
            [N, K, 2, H, W] or [N, K, 3, D, H, W].
        mode: how to interpolate: ``"bilinear"``, which for volumes is trilinear.
        padding: what is outside of an image: ``"zeros"``, or ``"border"``, its nearest pixel.

    Returns:
        y, like ``x``; [N, K, C, ...] for K fields an image, which are warped one by one.

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
        >>> warp(x, torch.stack([flow, 2 * flow], 1)).shape  # two fields for the image
        torch.Size([1, 2, 1, 1, 3])
    """
    op = "warp"
    check_state(op, x)
    check_choice(op, "mode", mode, get_args(WarpMode))
    check_choice(op, "padding", padding, get_args(WarpPadding))
    _check_flow(op, x, flow)
    flow = flow.to(accumulation_dtype(x))
    fields = flow if flow.dim() == x.dim() else flow.flatten(0, 1)
    border = padding == "border"
    result: Tensor = (_reference if state.reference else _warp)(x, fields, border)
    return result if fields is flow else result.view(*flow.shape[:2], *x.shape[1:])


def _check_flow(op: str, x: Tensor, flow: Tensor) -> None:
    check_state(op, flow, "flow")
    rank = x.dim() - 2
    if rank not in (2, 3):
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W] or [N, C, D, H, W]"
        )
    several = flow.dim() == x.dim() + 1
    expected = [x.shape[0], *(flow.shape[1:2] if several else ()), rank, *x.shape[2:]]
    if list(flow.shape) != expected:
        sides = ", ".join(map(str, [rank, *x.shape[2:]]))
        raise ValueError(
            f"{op}: flow has shape {list(flow.shape)}, expected [{x.shape[0]}, {sides}] or, for K "
            f"fields an image, [{x.shape[0]}, K, {sides}], for x of shape {list(x.shape)}"
        )
    check_accumulated(op, x, flow, "flow")
    if max(x.shape[2:]) > 2**24 or math.prod(x.shape[2:]) >= 2**31:
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, expected sides of at most 2**24 and less than "
            "2**31 pixels"
        )


# Operators take the fields of all images in one dimension: flow is [N K, rank, ...], field n K + k
# is of image n, and so is entry n K + k of the result.


def _reference(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    """``warp`` in pure PyTorch."""
    sizes, rank = x.shape[2:], x.dim() - 2
    if x.numel() == 0 or flow.numel() == 0:
        anything = x.sum() + flow.sum().to(x.dtype)  # no element, but a graph
        return anything.expand(flow.shape[0], *x.shape[1:]).clone()
    if flow.shape[0] != x.shape[0]:
        x = x.repeat_interleave(flow.shape[0] // x.shape[0], 0)
    lost = flow.isnan().any(1)  # along all axes, if along one
    image = x.to(flow.dtype).flatten(2)
    axes = []  # of the displacements: the last dimension first
    for a in range(rank):
        places = torch.arange(sizes[-1 - a], device=x.device)
        near, far, fraction = _axis(flow[:, a], lost, places.view(-1, *[1] * a), border)
        axes.append(((near, far), fraction.unsqueeze(1)))

    def between(chosen: tuple[Tensor, ...]) -> Tensor:
        """Along the axes that are left, at the places that are chosen on the last ones."""
        left = rank - len(chosen)
        if left == 0:
            return _pixels(image, chosen, sizes, border)
        (near, far), fraction = axes[left - 1]
        a, b = between((near, *chosen)), between((far, *chosen))
        b = torch.where((fraction == 0) & ~b.isfinite(), a, b)  # nothing comes from there
        return a + fraction * (b - a)

    return between(()).to(x.dtype)


def _pixels(image: Tensor, at: tuple[Tensor, ...], sizes: torch.Size, border: bool) -> Tensor:
    """The pixels of images [N, C, pixels] at places along each axis, the last dimension first."""
    place, stride = torch.zeros_like(at[0]), 1
    outside = torch.zeros_like(at[0], dtype=torch.bool)
    for along, size in zip(at, reversed(sizes), strict=True):
        place = place + stride * along.clamp(0, size - 1)
        outside = outside | (along < 0) | (along >= size)
        stride *= size
    index = place.flatten(1).unsqueeze(1).expand(-1, image.shape[1], -1)
    values = image.gather(2, index).view(*image.shape[:2], *sizes)
    return values if border else values.masked_fill(outside.unsqueeze(1), 0.0)


def _axis(flow: Tensor, lost: Tensor, at: Tensor, border: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels around each sample along one axis, and how far it is from the first.

    Both are the sample's own pixel, and the distance is NaN, where the displacement is lost.
    """
    last, margin = at.numel() - 1, 0 if border else 2
    bounded = flow.clamp(-at - margin, last - at + margin)
    whole = bounded.detach().floor()
    near = at + whole.masked_fill(lost, 0.0).long()
    # Zero, but where it is NaN and so is its derivative, which that of clamp is not.
    unknown = flow.where(lost, 0.0) * torch.zeros_like(flow).masked_fill(lost, math.nan)
    return near, near + ~lost, bounded - whole + unknown


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
    if flow.shape[0] == x.shape[0]:
        return torch.empty_like(x)
    return x.new_empty(flow.shape[0], *x.shape[1:])


@torch.library.register_fake("gencore::warp_backward")
def _(
    grad: Tensor, x: Tensor, flow: Tensor, border: bool, needs_x: bool, needs_flow: bool
) -> tuple[Tensor, ...]:
    return (
        x.new_empty(x.shape if needs_x else (0,)),
        flow.new_empty(flow.shape if needs_flow else (0,)),
    )
