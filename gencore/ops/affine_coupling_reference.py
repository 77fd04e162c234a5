"""The affine coupling in torch: its twin, its derivatives, the shapes of its results."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gencore.ops.checks import accumulation_dtype, wants_grad

__all__ = [
    "BOUNDED",
    "EXPONENTIAL",
    "GATED",
    "MASKS",
    "CouplingMask",
    "CouplingSettings",
    "reference_coupling",
    "reference_rewind",
    "split_mask",
    "transformed_channels",
]

CouplingMask = Literal["channel", "checkerboard"]
# As csrc/ops/affine_coupling.cpp and csrc/math/affine.h number them.
MASKS: tuple[CouplingMask | None, ...] = (None, "channel", "checkerboard")
EXPONENTIAL, BOUNDED, GATED = range(3)

_ops = torch.ops.gencore


class CouplingSettings(NamedTuple):
    """What the family's schemas share, in their order."""

    kind: int
    bound: float
    inverse: bool
    mask: int
    swap: bool

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
    board = _checkerboard(x, swap)
    return x.masked_fill(~board, 0.0), lambda y: torch.where(board, y, x)


def _checkerboard(x: Tensor, swap: bool) -> Tensor:
    """Where a checkerboard transforms [N, C, H, W], as [H, W]."""
    h = torch.arange(x.shape[-2], device=x.device)[:, None]
    w = torch.arange(x.shape[-1], device=x.device)
    return (h + w) % 2 == (0 if swap else 1)


def reference_coupling(
    x: Tensor, raw_scale: Tensor | None, shift: Tensor, settings: CouplingSettings
) -> tuple[Tensor, Tensor]:
    """``affine_coupling`` and ``iaf_step`` in pure PyTorch."""
    kind, bound, inverse, mask, swap = settings
    dtype = accumulation_dtype(x)
    part, put = split_mask(x, MASKS[mask], swap)
    part, t = part.to(dtype), shift.to(dtype)
    raw = torch.zeros_like(t) if raw_scale is None else raw_scale.to(dtype)
    if MASKS[mask] == "checkerboard":
        raw, t = (split_mask(operand, "checkerboard", swap)[0] for operand in (raw, t))
    if kind == GATED:
        s, t = torch.nn.functional.logsigmoid(raw), torch.sigmoid(-raw) * t
    else:
        s = bound * torch.tanh(raw / bound) if kind == BOUNDED else raw
    y = (part - t) * torch.exp(-s) if inverse else part * torch.exp(s) + t
    log_det = s.flatten(1).sum(1)
    return put(y.to(x.dtype)), -log_det if inverse else log_det


def reference_rewind(
    y: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor,
    grad_y: Tensor,
    grad_log_det: Tensor,
    settings: CouplingSettings,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """``affine_coupling_backward_from_output`` in pure PyTorch."""
    with torch.no_grad():
        x = reference_coupling(y, raw_scale, shift, settings._replace(inverse=True))[0]
    with torch.enable_grad():
        x = x.requires_grad_()
        t = shift.detach().requires_grad_()
        leaves = [x, t]
        if raw_scale is not None:
            raw_scale = raw_scale.detach().requires_grad_()
            leaves.append(raw_scale)
        outputs = reference_coupling(x, raw_scale, t, settings)
        heads, tails = [outputs[0]], [grad_y]
        if raw_scale is not None:
            heads, tails = [*outputs], [grad_y, grad_log_det]
        grads = torch.autograd.grad(heads, leaves, tails)
    return x.detach(), grads[0], None if raw_scale is None else grads[2], grads[1]


# Derivatives of the compiled operators: of the map a kernel, of that another, and beyond them
# autograd's own of the twin.


def _shift_grad(grad_y: Tensor, settings: CouplingSettings) -> Tensor:
    """∂L/∂shift of y = … + shift: the transformed part of ∂L/∂y, without a copy where it can be."""
    return split_mask(grad_y, MASKS[settings.mask], settings.swap)[0]


def _additive_backward(
    grad_y: Tensor | None, settings: CouplingSettings
) -> tuple[Tensor | None, None, Tensor | None]:
    if grad_y is None:
        return None, None, None
    shift_grad = _shift_grad(grad_y, settings)
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
    elif needs_shift and not settings.subtracts_shift:
        shift_grad, needs_shift = _shift_grad(grad_y, settings), False
    needs_raw = needs_raw and not (grad_y is None and grad_log_det is None)
    needs = (needs_x, needs_raw, needs_shift)
    if any(needs):
        differentiated = wants_grad(grad_y, grad_log_det, x, raw_scale, shift)
        backward = _ops.affine_coupling_backward
        backward = backward.default if differentiated else backward.no_autograd
        grads = backward(grad_y, grad_log_det, x, raw_scale, shift, *settings, *needs)
        x_grad, raw_grad = (g if need else None for g, need in zip(grads, needs[:2], strict=False))
        shift_grad = grads[2] if needs_shift else shift_grad
    return x_grad, raw_grad, shift_grad, *nothing


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.settings = CouplingSettings(*inputs[5:10])
    ctx.needs = inputs[10:]
    ctx.set_materialize_grads(False)


def _backward_backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = [t if need else None for t, need in zip(tangents, ctx.needs, strict=True)]
    nothing = (None,) * (len(ctx.settings) + len(ctx.needs))
    if all(t is None for t in wanted):
        return *(None,) * 5, *nothing
    grads = _ops.affine_coupling_double_backward(*wanted, *ctx.saved_tensors, *ctx.settings)
    exists = _second_exists(wanted, ctx.saved_tensors, ctx.settings)
    return *(g if there else None for g, there in zip(grads, exists, strict=True)), *nothing


def _second_exists(
    tangents: Sequence[Tensor | None], saved: Sequence[Tensor | None], settings: CouplingSettings
) -> tuple[bool, ...]:
    """Which results of the double backward do not vanish whatever the operands are."""
    curved = tangents[1] is not None and saved[0] is not None
    return saved[0] is not None, saved[1] is not None, curved, True, (
        curved and settings.subtracts_shift
    )


def _reference_double_backward(
    operands: Sequence[Tensor | None], settings: CouplingSettings
) -> list[Tensor | None]:
    """The results of ``affine_coupling_double_backward``, differentiable."""
    *tangents, grad_y, grad_log_det, x, raw_scale, shift = operands
    assert x is not None
    assert raw_scale is not None
    unseen = torch.zeros_like(raw_scale) if shift is None else shift
    outputs = reference_coupling(x, raw_scale, unseen, settings)
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


torch.library.register_autograd(
    "gencore::affine_coupling", _coupling_backward, setup_context=_coupling_setup
)
torch.library.register_autograd(
    "gencore::affine_coupling_backward", _backward_backward, setup_context=_backward_setup
)
torch.library.register_autograd(
    "gencore::affine_coupling_double_backward",
    _double_backward_backward,
    setup_context=_double_backward_setup,
)


# Shapes of their results.


def _row_entries(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], dtype=accumulation_dtype(x))


def _wanted(like: Tensor, wanted: bool) -> Tensor:
    return torch.empty_like(like) if wanted else like.new_empty(0)


@torch.library.register_fake("gencore::affine_coupling")
@torch.library.register_fake("gencore::affine_coupling.no_autograd")
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _row_entries(x)


@torch.library.register_fake("gencore::affine_coupling_backward")
@torch.library.register_fake("gencore::affine_coupling_backward.no_autograd")
def _(
    grad_y: Tensor | None, grad_log_det: Tensor | None, x: Tensor, raw_scale: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    likes = (x, raw_scale, raw_scale)
    return tuple(_wanted(like, need) for like, need in zip(likes, rest[-3:], strict=True))


@torch.library.register_fake("gencore::affine_coupling_double_backward")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    tangents, saved = arguments[:3], arguments[3:8]
    x, raw_scale = saved[2:4]
    exists = _second_exists(tangents, saved, CouplingSettings(*arguments[8:]))
    return (
        _wanted(x, exists[0]),
        _row_entries(x),
        *(_wanted(t, there) for t, there in zip((x, raw_scale, raw_scale), exists[2:], strict=True)),
    )


@torch.library.register_fake("gencore::affine_coupling_backward_from_output")
def _(y: Tensor, raw_scale: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return (
        torch.empty_like(y),
        torch.empty_like(y),
        torch.empty_like(raw_scale),
        _wanted(raw_scale, rest[-1]),
    )
