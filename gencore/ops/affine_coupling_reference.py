"""The affine coupling in torch: reference, derivatives, shapes of the results.

The derivative of the map is a kernel, and the derivative of that one is a kernel too. The third
derivative and all beyond it are those of the reference.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import (
    differentiable,
    gradients,
    gradients_of_reference,
    leaf,
    ordinary,
)
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import accumulation_dtype

__all__ = [
    "BOUNDED",
    "EXPONENTIAL",
    "GATED",
    "LARGEST_BOUND",
    "MASKS",
    "CouplingMask",
    "CouplingSettings",
    "native_coupling",
    "reference_coupling",
    "reference_rewind",
    "shift_grad_of",
    "split_mask",
    "transformed_channels",
]

_ops = torch.ops.gencore

CouplingMask = Literal["channel", "checkerboard"]
# As csrc/ops/affine_coupling.cpp and csrc/math/affine.h number them.
MASKS: tuple[CouplingMask | None, ...] = (None, "channel", "checkerboard")
EXPONENTIAL, BOUNDED, GATED = range(3)
LARGEST_BOUND = 80.0  # of kernels whose exponential takes no infinity into account


class CouplingSettings(NamedTuple):
    """What the family's schemas share, in their order."""

    kind: int
    bound: float
    inverse: bool
    mask: int
    swap: bool
    joint: bool
    """Whether the raw scale holds the shift too, in the second half of dimension 1."""

    @property
    def subtracts_shift(self) -> bool:
        """Whether derivatives depend on the shift: the map is u·(x − t) + …, not u·x + t."""
        return self.inverse or self.kind == GATED


def transformed_channels(channels: int, swap: bool) -> int:
    """How many of a tensor's channels a channel mask transforms."""
    return channels - channels // 2 if swap else channels // 2


def split_mask(
    x: Tensor, mask: CouplingMask | None, swap: bool
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The part of x that is transformed, and what puts it back among the rest."""
    if mask is None:
        return x, lambda y: y
    if mask == "channel":
        moved = transformed_channels(x.shape[1], swap)
        if swap:
            return x[:, :moved], lambda y: torch.cat([y, x[:, moved:]], 1)
        rest = x.shape[1] - moved
        return x[:, rest:], lambda y: torch.cat([x[:, :rest], y], 1)
    board = checkerboard(x, swap)
    return x.masked_fill(~board, 0.0), lambda y: torch.where(board, y, x)


def checkerboard(x: Tensor, swap: bool) -> Tensor:
    """Where a checkerboard transforms [N, C, H, W], as [H, W]."""
    h = torch.arange(x.shape[-2], device=x.device)[:, None]
    w = torch.arange(x.shape[-1], device=x.device)
    return (h + w) % 2 == (0 if swap else 1)


def reference_coupling(
    x: Tensor, raw_scale: Tensor | None, shift: Tensor | None, settings: CouplingSettings
) -> tuple[Tensor, Tensor]:
    """``affine_coupling`` and ``iaf_step`` in pure PyTorch."""
    kind, bound, inverse, mask, swap, joint = settings
    if joint:
        assert raw_scale is not None
        raw_scale, shift = raw_scale.tensor_split(2, 1)
    assert shift is not None
    dtype = accumulation_dtype(x)
    part, put = split_mask(x, MASKS[mask], swap)
    part, t = part.to(dtype), shift.to(dtype)
    raw = torch.zeros_like(t) if raw_scale is None else raw_scale.to(dtype)
    if MASKS[mask] == "checkerboard":
        raw, t = (split_mask(operand, "checkerboard", swap)[0] for operand in (raw, t))
    if kind == GATED:
        s, t = torch.nn.functional.logsigmoid(raw), torch.sigmoid(-raw) * t
    else:
        s = bounded(raw, bound) if kind == BOUNDED else raw
    y = (part - t) * torch.exp(-s) if inverse else part * torch.exp(s) + t
    log_det = s.reshape(s.shape[0], math.prod(s.shape[1:])).sum(1)
    return put(y.to(x.dtype)), -log_det if inverse else log_det


def reference_rewind(
    y: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    grad_y: Tensor,
    grad_log_det: Tensor,
    settings: CouplingSettings,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """``affine_coupling_backward_from_output`` in pure PyTorch."""
    with torch.no_grad():
        x = reference_coupling(y, raw_scale, shift, settings._replace(inverse=True))[0]
    with torch.inference_mode(False), torch.enable_grad():
        x = leaf(x)
        raw_scale, shift = (None if t is None else leaf(t) for t in (raw_scale, shift))
        leaves = [t for t in (x, raw_scale, shift) if t is not None]
        outputs = reference_coupling(x, raw_scale, shift, settings)
        pairs = zip(outputs, map(ordinary, (grad_y, grad_log_det)), strict=True)
        heads, tails = zip(*((out, g) for out, g in pairs if out.requires_grad), strict=True)
        x_grad, *grads = torch.autograd.grad(heads, leaves, tails)
    raw_grad = None if raw_scale is None else grads.pop(0)
    return x.detach(), x_grad, raw_grad, None if shift is None else grads.pop(0)


# Derivatives of the compiled operators.


def shift_grad_of(grad_y: Tensor, settings: CouplingSettings) -> Tensor:
    """∂L/∂shift of y = … + shift: the transformed part of ∂L/∂y, without a copy where it can be."""
    return split_mask(grad_y, MASKS[settings.mask], settings.swap)[0]


def _additive_backward(
    grad_y: Tensor | None, settings: CouplingSettings
) -> tuple[Tensor | None, None, Tensor | None]:
    if grad_y is None:
        return None, None, None
    shift_grad = shift_grad_of(grad_y, settings)
    return grad_y, None, -shift_grad if settings.inverse else shift_grad


def _coupling_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, raw_scale, shift, *numbers = inputs
    ctx.settings = CouplingSettings(*numbers)
    if raw_scale is None:
        x = shift = None
    elif not ctx.settings.subtracts_shift:
        shift = None
    ctx.save_for_backward(x, raw_scale, shift)
    ctx.set_materialize_grads(False)


def _coupling_backward(
    ctx: Any, grad_y: Tensor | None, grad_log_det: Tensor | None
) -> tuple[Tensor | None, ...]:
    x, raw_scale, shift = ctx.saved_tensors
    settings: CouplingSettings = ctx.settings
    nothing = (None,) * len(settings)
    if raw_scale is None:
        return *_additive_backward(grad_y, settings), *nothing
    needs_x, needs_raw, needs_shift = ctx.needs_input_grad[:3]
    x_grad = raw_grad = shift_grad = None
    if grad_y is None:
        needs_x = needs_shift = False
    elif needs_shift and not settings.subtracts_shift:  # and it is an operand of its own
        shift_grad, needs_shift = shift_grad_of(grad_y, settings), False
    needs_raw = needs_raw and not (grad_y is None and grad_log_det is None)
    needs = (needs_x, needs_raw, needs_shift)
    if any(needs):
        grads = _backward(grad_y, grad_log_det, x, raw_scale, shift, *settings, *needs)
        x_grad, raw_grad = (g if need else None for g, need in zip(grads, needs[:2], strict=False))
        shift_grad = grads[2] if needs_shift else shift_grad
    return x_grad, raw_grad, shift_grad, *nothing


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.settings, ctx.needs = CouplingSettings(*inputs[5:-3]), inputs[-3:]
    ctx.set_materialize_grads(False)


def _backward_backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = [t if need else None for t, need in zip(tangents, ctx.needs, strict=True)]
    nothing = (None,) * (len(ctx.settings) + len(ctx.needs))
    if all(t is None for t in wanted):
        return *(None,) * 5, *nothing
    grads = _double_backward(*wanted, *ctx.saved_tensors, *ctx.settings)
    exists = _second_exists(wanted, ctx.saved_tensors, ctx.settings)
    return *(g if there else None for g, there in zip(grads, exists, strict=True)), *nothing


def _second_exists(
    tangents: Sequence[Tensor | None], saved: Sequence[Tensor | None], settings: CouplingSettings
) -> tuple[bool, ...]:
    """Which results of the double backward do not vanish whatever the operands are."""
    curved = tangents[1] is not None and saved[0] is not None
    return (
        saved[0] is not None,
        saved[1] is not None,
        curved,
        True,
        (curved and settings.subtracts_shift and not settings.joint),
    )


def _reference_double_backward(
    operands: Sequence[Tensor | None], settings: CouplingSettings
) -> list[Tensor | None]:
    """The results of ``affine_coupling_double_backward``, differentiable."""
    *tangents, grad_y, grad_log_det, x, raw_scale, shift = operands
    assert x is not None
    assert raw_scale is not None
    # A shift that no derivative depends on was not saved.
    unseen = None if settings.joint else torch.zeros_like(raw_scale)
    results = reference_coupling(x, raw_scale, unseen if shift is None else shift, settings)
    grads = gradients(results, (x, raw_scale, shift), (grad_y, grad_log_det))
    return gradients(grads, (grad_y, grad_log_det, x, raw_scale, shift), tangents)


def _double_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.settings = CouplingSettings(*inputs[8:])
    ctx.set_materialize_grads(False)


def _double_backward_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * len(ctx.settings)
    exists = _second_exists(ctx.saved_tensors[:3], ctx.saved_tensors[3:], ctx.settings)
    wanted = [g if there else None for g, there in zip(grads, exists, strict=True)]

    def reference(*operands: Tensor | None) -> list[Tensor | None]:
        return _reference_double_backward(operands, ctx.settings)

    found = gradients_of_reference(reference, ctx.saved_tensors, wanted)
    return *found, *nothing


native_coupling = differentiable(_ops.affine_coupling.default, _coupling_backward, _coupling_setup)
_backward = differentiable(
    _ops.affine_coupling_backward.default, _backward_backward, _backward_setup
)
_double_backward = differentiable(
    _ops.affine_coupling_double_backward.default, _double_backward_backward, _double_backward_setup
)


# Shapes of their results.


def _row_entries(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], dtype=accumulation_dtype(x))


def _wanted(like: Tensor, wanted: bool) -> Tensor:
    return torch.empty_like(like) if wanted else like.new_empty(0)


@torch.library.register_fake("gencore::affine_coupling")
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _row_entries(x)


@torch.library.register_fake("gencore::affine_coupling_backward")
def _(
    grad_y: Tensor | None, grad_log_det: Tensor | None, x: Tensor, raw_scale: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    likes = (x, raw_scale, raw_scale)
    return tuple(_wanted(like, need) for like, need in zip(likes, rest[-3:], strict=True))


@torch.library.register_fake("gencore::affine_coupling_double_backward")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    tangents, saved = arguments[:3], arguments[3:8]
    x, raw_scale = saved[2:4]
    likes = (x, raw_scale, raw_scale)
    exists = _second_exists(tangents, saved, CouplingSettings(*arguments[8:]))
    return (
        _wanted(x, exists[0]),
        _row_entries(x),
        *(_wanted(like, there) for like, there in zip(likes, exists[2:], strict=True)),
    )


@torch.library.register_fake("gencore::affine_coupling_backward_from_output")
def _(y: Tensor, raw_scale: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return (
        torch.empty_like(y),
        torch.empty_like(y),
        torch.empty_like(raw_scale),
        _wanted(raw_scale, rest[-1]),
    )
