"""The Langevin step in torch: reference, derivatives, shapes of the results."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.checks import accumulation_dtype, check_fake_devices
from gencore.ops.random import reference_normal

__all__ = ["LangevinSettings", "native_step", "reference_step"]

_ops = torch.ops.gencore


class LangevinSettings(NamedTuple):
    """What the family's schemas share, in their order; per-chain tensors replace the numbers."""

    key: Tensor | None
    step_sizes: Tensor | None
    noise_scales: Tensor | None
    step_size: float
    noise_scale: float
    prior_precision: float
    grad_clamp: float
    clamp_min: float
    clamp_max: float
    first_element: int

    @property
    def clips_grad(self) -> bool:
        return self.grad_clamp < math.inf

    @property
    def clamps_state(self) -> bool:
        return self.clamp_min > -math.inf or self.clamp_max < math.inf


def reference_step(x: Tensor, grad: Tensor, noise: Tensor | None, s: LangevinSettings) -> Tensor:
    """``langevin_step`` in pure PyTorch, in the accumulation dtype."""
    accumulate = accumulation_dtype(x)

    def coefficient(values: Tensor | None, value: float) -> Tensor | float:
        if values is None or x.numel() == 0:
            return value
        return values.repeat_interleave(x.numel() // values.numel()).view(x.shape)

    state, drift = x.to(accumulate), grad.to(accumulate)
    if s.clips_grad:
        drift = drift.clamp(-s.grad_clamp, s.grad_clamp)
    drift = drift + s.prior_precision * state
    result = state - coefficient(s.step_sizes, s.step_size) * drift
    if noise is None and s.key is not None:
        noise = reference_normal(x.shape, s.key, s.first_element, accumulate)
    if noise is not None:
        scale = coefficient(s.noise_scales, s.noise_scale)
        result = result + scale * noise.to(accumulate)
    if s.clamps_state:
        result = result.clamp(s.clamp_min, s.clamp_max)
    return result.to(x.dtype)


# Derivatives. The step is piecewise linear: its adjoint is langevin_step_backward, its tangent map
# langevin_step_tangent, and each is the other's derivative. x, grad and noise enter them only
# through the clamps, whose own derivative is zero almost everywhere.


_Saved = tuple[Tensor | None, Tensor | None, Tensor | None, LangevinSettings]


def _save(
    ctx: Any,
    x: Tensor | None,
    grad: Tensor | None,
    noise: Tensor | None,
    settings: LangevinSettings,
) -> None:
    """Keep for the backward pass what its clamps need, which without clamps is nothing."""
    if not settings.clamps_state:
        x = noise = None
        settings = settings._replace(key=None)
        if not settings.clips_grad:
            grad = None
    tensors = settings[:3]
    ctx.save_for_backward(x, grad, noise, *tensors)
    ctx.numbers = settings[3:]
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> _Saved:
    x, grad, noise, *tensors = ctx.saved_tensors
    return x, grad, noise, LangevinSettings(*tensors, *ctx.numbers)


def _adjoint(
    grad_out: Tensor, saved: _Saved, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    x, grad, noise, settings = saved
    # Without a clamp and a prior, x enters as it is, and its gradient needs no memory of its own.
    passes = needs[0] and not settings.clamps_state and settings.prior_precision == 0.0
    made = (needs[0] and not passes, *needs[1:])
    if not any(made):
        return grad_out if passes else None, None, None
    grads = _backward(grad_out, x, grad, noise, *settings, *made)
    found = [g if needed else None for g, needed in zip(grads, made, strict=True)]
    return (grad_out, *found[1:]) if passes else tuple(found)


def _step_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, grad, noise, *settings = inputs
    _save(ctx, x, grad, noise, LangevinSettings(*settings))


def _step_backward(ctx: Any, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
    settings = (None,) * len(LangevinSettings._fields)
    if grad_out is None:
        return (None, None, None, *settings)
    return (*_adjoint(grad_out, _saved(ctx), ctx.needs_input_grad[:3]), *settings)


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_out, x, grad, noise, *rest = inputs
    _save(ctx, x, grad, noise, LangevinSettings(*rest[:-3]))
    ctx.like = grad_out.detach()
    ctx.arity = len(inputs)


def _backward_backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = [t if t is not None and t.numel() > 0 else None for t in tangents]
    x, grad, noise, settings = _saved(ctx)
    out = None
    if any(t is not None for t in wanted):
        out = _tangent(ctx.like, *wanted, x, grad, noise, *settings)
    return (out, *(None,) * (ctx.arity - 1))


def _tangent_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, _, _, x, grad, noise, *settings = inputs
    _save(ctx, x, grad, noise, LangevinSettings(*settings))
    ctx.arity = len(inputs)


def _tangent_backward(ctx: Any, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_out is None:
        return (None,) * ctx.arity
    grads = _adjoint(grad_out, _saved(ctx), ctx.needs_input_grad[1:4])
    return (None, *grads, *(None,) * (ctx.arity - 4))


native_step = differentiable(_ops.langevin_step.default, _step_backward, _step_setup)
_backward = differentiable(_ops.langevin_step_backward.default, _backward_backward, _backward_setup)
_tangent = differentiable(_ops.langevin_step_tangent.default, _tangent_backward, _tangent_setup)


@torch.library.register_fake("gencore::langevin_step")
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("gencore::langevin_step_")
@torch.library.register_fake("gencore::langevin_step_.plain")
def _(x: Tensor, *rest: Any) -> None:
    check_fake_devices("langevin_step_", x, rest)


@torch.library.register_fake("gencore::langevin_step_backward")
def _(grad_out: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    like = torch.empty_like(grad_out, memory_format=torch.contiguous_format)
    return tuple(like.clone() if needed else grad_out.new_empty(0) for needed in rest[-3:])


@torch.library.register_fake("gencore::langevin_step_tangent")
def _(like: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)
