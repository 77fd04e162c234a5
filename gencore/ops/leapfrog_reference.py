"""The leapfrog operators in torch: references, derivatives, shapes of the results.

References and derivatives are written over rows [N, D], in the accumulation dtype. Autograd
differentiates both to any order.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.checks import accumulation_dtype, check_fake_devices
from gencore.ops.random import reference_normal

__all__ = [
    "Coefficients",
    "as_rows",
    "reference_end",
    "reference_start",
    "reference_step",
    "rows",
    "rows_like",
]


class Coefficients(NamedTuple):
    """What the family's schemas share, in their order; tensors replace the numbers."""

    step_sizes: Tensor | None
    """[N] or [1]."""
    inverse_masses: Tensor | None
    """[1 or N, 1 or D]."""
    step_size: float
    inverse_mass: float


def rows(t: Tensor) -> Tensor:
    """[N, ...] as [N, D] in the accumulation dtype."""
    return t.reshape(t.shape[0], math.prod(t.shape[1:])).to(accumulation_dtype(t))


def as_rows(c: Coefficients) -> tuple[Tensor | float, Tensor | float]:
    """The step size and the inverse mass, as what broadcasts to rows."""
    step = c.step_size if c.step_sizes is None else c.step_sizes.view(-1, 1)
    return step, c.inverse_mass if c.inverse_masses is None else c.inverse_masses


def rows_like(values: Tensor, like: Tensor) -> Tensor:
    """Rows in the shape and the dtype of ``like``."""
    return values.reshape(like.shape).to(like.dtype)


def reference_start(
    x: Tensor,
    grad: Tensor,
    noise: Tensor | None,
    key: Tensor | None,
    coefficients: Coefficients,
    first_element: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """``leapfrog_start`` in pure PyTorch."""
    step, inverse_mass = as_rows(coefficients)
    if noise is None:
        assert key is not None
        noise = reference_normal(x.shape, key, first_element, accumulation_dtype(x))
    fresh = rows(noise) / inverse_mass**0.5
    momentum = fresh - 0.5 * step * rows(grad)
    position = rows(x) + step * inverse_mass * momentum
    kinetic = 0.5 * (inverse_mass * fresh.square()).sum(1)
    return (rows_like(position, x), rows_like(momentum, x), kinetic)


def reference_step(
    x: Tensor, momentum: Tensor, grad: Tensor, coefficients: Coefficients
) -> tuple[Tensor, Tensor]:
    """``leapfrog_step`` in pure PyTorch."""
    step, inverse_mass = as_rows(coefficients)
    kicked = rows(momentum) - step * rows(grad)
    position = rows(x) + step * inverse_mass * kicked
    return rows_like(position, x), rows_like(kicked, momentum)


def reference_end(
    momentum: Tensor, grad: Tensor, coefficients: Coefficients
) -> tuple[Tensor, Tensor]:
    """``leapfrog_end`` in pure PyTorch."""
    step, inverse_mass = as_rows(coefficients)
    kicked = rows(momentum) - 0.5 * step * rows(grad)
    return (rows_like(kicked, momentum), 0.5 * (inverse_mass * kicked.square()).sum(1))


# Derivatives of the compiled operators.


def _start_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[2], *inputs[4:6])
    ctx.numbers = inputs[6:8]


def _start_backward(
    ctx: Any, position_grad: Tensor, momentum_grad: Tensor, kinetic_grad: Tensor
) -> tuple[Tensor | None, ...]:
    noise, *coefficients = ctx.saved_tensors
    step, inverse_mass = as_rows(Coefficients(*coefficients, *ctx.numbers))
    momentum = rows(momentum_grad) + step * inverse_mass * rows(position_grad)
    noise_grad = None
    if noise is not None:
        fresh = momentum / inverse_mass**0.5 + kinetic_grad.unsqueeze(1) * rows(noise)
        noise_grad = rows_like(fresh, noise)
    grad_grad = rows_like(-0.5 * step * momentum, position_grad)
    return position_grad, grad_grad, noise_grad, *(None,) * 6


def _step_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[3:5])
    ctx.numbers = inputs[5:]


def _step_backward(
    ctx: Any, position_grad: Tensor, momentum_grad: Tensor
) -> tuple[Tensor | None, ...]:
    step, inverse_mass = as_rows(Coefficients(*ctx.saved_tensors, *ctx.numbers))
    momentum = rows(momentum_grad) + step * inverse_mass * rows(position_grad)
    grad_grad = rows_like(-step * momentum, momentum_grad)
    return position_grad, rows_like(momentum, momentum_grad), grad_grad, *(None,) * 4


def _end_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.numbers = inputs[4:]


def _end_backward(
    ctx: Any, momentum_grad: Tensor, kinetic_grad: Tensor
) -> tuple[Tensor | None, ...]:
    momentum, grad, *coefficients = ctx.saved_tensors
    step, inverse_mass = as_rows(Coefficients(*coefficients, *ctx.numbers))
    kicked = rows(momentum) - 0.5 * step * rows(grad)
    total = rows(momentum_grad) + kinetic_grad.unsqueeze(1) * inverse_mass * kicked
    return rows_like(total, momentum), rows_like(-0.5 * step * total, grad), *(None,) * 4


_ops = torch.ops.gencore
native_start = differentiable(_ops.leapfrog_start.default, _start_backward, _start_setup)
native_step = differentiable(_ops.leapfrog_step.default, _step_backward, _step_setup)
native_end = differentiable(_ops.leapfrog_end.default, _end_backward, _end_setup)


# Shapes of their results.


def _fake_kinetic(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], dtype=accumulation_dtype(x))


@torch.library.register_fake("gencore::leapfrog_start")
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), _fake_kinetic(x)


@torch.library.register_fake("gencore::leapfrog_step")
def _(x: Tensor, momentum: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(momentum)


@torch.library.register_fake("gencore::leapfrog_end")
def _(momentum: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(momentum), _fake_kinetic(momentum)


@torch.library.register_fake("gencore::leapfrog_step_")
@torch.library.register_fake("gencore::leapfrog_step_.plain")
def _(x: Tensor, *rest: Any) -> None:
    check_fake_devices("leapfrog_step_", x, rest)
