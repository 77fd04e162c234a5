"""The derivatives of the affine coupling's operators, and the shapes of their results.

The map's is a kernel, that one's another; beyond them it is autograd's own of the twin.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.affine_coupling_reference import (
    MASKS,
    CouplingSettings,
    reference_coupling,
    split_mask,
)

_ops = torch.ops.gencore


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
    outputs = reference_coupling(x, raw_scale, unseen if shift is None else shift, settings)
    grads = _grad(outputs, (grad_y, grad_log_det), (x, raw_scale, shift))
    return _grad(grads, tangents, (grad_y, grad_log_det, x, raw_scale, shift))


def _grad(
    outputs: Sequence[Tensor | None],
    grad_outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """torch.autograd.grad with a graph; None for what is missing."""
    pairs = [
        (out, grad)
        for out, grad in zip(outputs, grad_outputs, strict=True)
        if out is not None and grad is not None and out.requires_grad
    ]
    present = [t for t in inputs if t is not None]
    if not pairs:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs],
            present,
            [grad for _, grad in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [None if t is None else next(found) for t in inputs]


def _double_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.settings = CouplingSettings(*inputs[8:])
    ctx.set_materialize_grads(False)


def _double_backward_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * len(ctx.settings)
    exists = _second_exists(ctx.saved_tensors[:3], ctx.saved_tensors[3:], ctx.settings)
    wanted = [g if there else None for g, there in zip(grads, exists, strict=True)]
    with torch.enable_grad():
        # Where the saved operands have no graph, or share one, stand-ins of their own do.
        operands = [
            None if t is None else t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
            for t in ctx.saved_tensors
        ]
        results = _reference_double_backward(operands, ctx.settings)
        found = _grad(results, wanted, operands)
    if not torch.is_grad_enabled():
        found = [None if g is None else g.detach() for g in found]
    return *found, *nothing


couple = differentiable(_ops.affine_coupling.default, _coupling_backward, _coupling_setup)
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
