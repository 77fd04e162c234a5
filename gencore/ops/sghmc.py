"""The fused step of stochastic-gradient Hamiltonian Monte Carlo."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_chains,
    check_fake_devices,
    check_like,
    check_not_differentiated,
    check_state,
    check_written,
    index,
    number,
    per_row,
)
from gencore.ops._support.checks import inverse_mass as checked_inverse_mass
from gencore.ops._support.kernel import kernel
from gencore.ops.leapfrog_reference import rows, rows_like
from gencore.ops.random import key_like, reference_normal

__all__ = ["sghmc_step", "sghmc_step_"]

_ops = torch.ops.gencore
_step_inplace = kernel(_ops.sghmc_step_.default)
_increment_version = torch._C._increment_version


class _Settings(NamedTuple):
    """What the schemas take after x and momentum, in their order; tensors replace the numbers."""

    grad: Tensor
    noise: Tensor | None
    key: Tensor | None
    step_sizes: Tensor | None
    """[N] or [1], as are `frictions` and `noise_scales`."""
    frictions: Tensor | None
    inverse_masses: Tensor | None
    """[1 or N, 1 or D]."""
    noise_scales: Tensor | None
    step_size: float
    friction: float
    inverse_mass: float
    noise_scale: float
    first_element: int


def sghmc_step(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    friction: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
    noise_scale: float | Tensor | None = None,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""One step of stochastic-gradient Hamiltonian Monte Carlo, in one pass over memory.

    .. math:: p' = p - ε\,g - ε\,C\,m^{-1} p + s\,ξ, \qquad x' = x + ε\,m^{-1} p',
              \qquad ξ \sim N(0, I)

    with step size ε, gradient g = ∇E(x) or an unbiased estimate of it, friction C and noise scale
    s. Differentiable in ``x``, ``momentum``, ``grad`` and ``noise``, to any order.

    Args:
        x: positions [N, ...] of N chains, float64, float32, bfloat16 or float16. Half types are
            computed in float32 and rounded once.
        momentum: p; same shape, dtype and device.
        grad: g, like ``x``.
        step_size: ε ≥ 0; a number or one entry a chain: [N], trailing ones allowed.
        friction: C ≥ 0, like ``step_size``.
        inverse_mass: m⁻¹ > 0: a number, one entry a chain, or anything that broadcasts to ``x`` (a
            shape of ``x.shape[1:]`` is shared by the chains), as in :func:`leapfrog_start`.
        noise_scale: s ≥ 0, like ``step_size``; default √(2Cε), with which the chain samples
            exp(−E − p²/2m) as ε → 0. Where the variance V of the gradient's own noise is known,
            √(2Cε − ε²V) takes it into account. Zero draws no noise.
        noise: ξ, like ``x``; drawn if ``None``.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part of
            it: the noise is that of the whole.

    Returns:
        x' and p', of the layouts of ``x`` and ``momentum``.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Chen, Fox and Guestrin, "Stochastic gradient Hamiltonian Monte Carlo", ICML 2014, eq. (13)
        and (15). Ma, Chen and Fox, "A complete recipe for stochastic gradient MCMC", NeurIPS 2015,
        with D = diag(0, C).

    Example:
        >>> import torch
        >>> from gencore.ops import sghmc_step
        >>> x, p = torch.tensor([1.0]), torch.tensor([0.5])  # E(x) = x²/2
        >>> sghmc_step(x, p, x, step_size=0.1, friction=2.0, noise=torch.zeros(1))
        (tensor([1.0300]), tensor([0.3000]))
    """
    settings = _settings(
        "sghmc_step", x, momentum, grad, step_size, friction, inverse_mass, noise_scale,
        noise, generator, key, first_element,
    )  # fmt: skip
    if state.reference:
        return _reference(x, momentum, settings)
    result: tuple[Tensor, Tensor] = _step(x, momentum, *settings)
    return result


def sghmc_step_(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    friction: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
    noise_scale: float | Tensor | None = None,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> tuple[Tensor, Tensor]:
    """:func:`sghmc_step` in place: the form samplers call. Never differentiable.

    Arguments and errors are those of :func:`sghmc_step`; besides, a ``ValueError`` where autograd
    would have to differentiate it, or where ``x`` and ``momentum`` share memory.

    Returns:
        ``x`` and ``momentum``, updated.

    Example:
        >>> import torch
        >>> from gencore.ops import sghmc_step_
        >>> x, p = torch.zeros(2), torch.tensor([1.0, -2.0])
        >>> sghmc_step_(x, p, torch.zeros(2), step_size=0.5, friction=0.0)
        (tensor([ 0.5000, -1.0000]), tensor([ 1., -2.]))
    """
    op = "sghmc_step_"
    settings = _settings(
        op, x, momentum, grad, step_size, friction, inverse_mass, noise_scale,
        noise, generator, key, first_element,
    )  # fmt: skip
    check_written(op, x=x, momentum=momentum)
    check_not_differentiated(op, "sghmc_step", x=x, momentum=momentum, grad=grad, noise=noise)
    if state.reference:
        with torch.no_grad():
            position, velocity = _reference(x, momentum, settings)
            return x.copy_(position), momentum.copy_(velocity)
    _step_inplace(x, momentum, *settings)
    if not torch.compiler.is_compiling():
        _increment_version((x, momentum))
    return x, momentum


def _settings(
    op: str,
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    friction: float | Tensor,
    mass: float | Tensor,
    noise_scale: float | Tensor | None,
    noise: Tensor | None,
    generator: torch.Generator | None,
    key: Tensor | None,
    first_element: int,
) -> _Settings:
    """Check the arguments and bring them to the schemas' form, with the noise's key drawn."""
    check_state(op, x)
    check_chains(op, x)
    check_like(op, x, momentum, "momentum")
    check_like(op, x, grad, "grad")
    if noise is not None:
        check_like(op, x, noise, "noise")
    step_sizes, step_number = _coefficient(op, "step_size", step_size, x)
    frictions, friction_number = _coefficient(op, "friction", friction, x)
    inverse_masses, mass_number = checked_inverse_mass(op, mass, x)
    if noise_scale is not None:
        noise_scales, noise_number = _coefficient(op, "noise_scale", noise_scale, x)
    elif step_sizes is None and frictions is None:
        noise_scales, noise_number = None, math.sqrt(2.0 * step_number * friction_number)
    else:
        steps = step_number if step_sizes is None else step_sizes
        drags: Any = friction_number if frictions is None else frictions
        noise_scales, noise_number = (2.0 * steps * drags).sqrt(), 0.0
    needed = noise is None and (noise_scales is not None or noise_number > 0.0)
    return _Settings(
        grad, noise, key_like(op, x, key, generator, needed=needed),
        step_sizes, frictions, inverse_masses, noise_scales,
        step_number, friction_number, mass_number, noise_number,
        index(op, "first_element", first_element),
    )  # fmt: skip


def _coefficient(
    op: str, name: str, value: float | Tensor, x: Tensor
) -> tuple[Tensor | None, float]:
    values = per_row(op, name, value, x)
    return values, 0.0 if values is not None else number(op, name, value)


# Reference and derivative are written over rows [N, D], in the accumulation dtype.


def _columns(values: Tensor | None, number: float) -> Any:
    """A coefficient as what broadcasts to rows."""
    return number if values is None else values.view(-1, 1)


def _reference(x: Tensor, momentum: Tensor, s: _Settings) -> tuple[Tensor, Tensor]:
    """The step in pure PyTorch."""
    step, friction = _columns(s.step_sizes, s.step_size), _columns(s.frictions, s.friction)
    mass = s.inverse_mass if s.inverse_masses is None else s.inverse_masses
    noise = s.noise
    if noise is None and s.key is not None:
        noise = reference_normal(x.shape, s.key, s.first_element, accumulation_dtype(x))
    p = rows(momentum)
    p = p - step * (rows(s.grad) + friction * (mass * p))
    if noise is not None:
        p = p + _columns(s.noise_scales, s.noise_scale) * rows(noise)
    return rows_like(rows(x) + step * (mass * p), x), rows_like(p, momentum)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    s = _Settings(*inputs[2:])
    ctx.save_for_backward(*s[3:7])
    ctx.numbers = s[7:]


def _backward(ctx: Any, x_grad: Tensor, momentum_grad: Tensor) -> tuple[Tensor | None, ...]:
    # The step is linear: its adjoint, in torch's operators, has every further derivative.
    step_sizes, frictions, masses, noise_scales = ctx.saved_tensors
    step_size, friction_number, inverse_mass, noise_scale, _ = ctx.numbers
    step, friction = _columns(step_sizes, step_size), _columns(frictions, friction_number)
    mass = inverse_mass if masses is None else masses
    # p' enters x' as well.
    cotangent = rows(momentum_grad) + step * (mass * rows(x_grad))
    needs_momentum, needs_grad, needs_noise = ctx.needs_input_grad[1:4]
    wrt_momentum = wrt_grad = wrt_noise = None
    if needs_momentum:
        damped = cotangent - step * (friction * (mass * cotangent))
        wrt_momentum = rows_like(damped, momentum_grad)
    if needs_grad:
        wrt_grad = rows_like(-step * cotangent, momentum_grad)
    if needs_noise:
        scale = _columns(noise_scales, noise_scale)
        wrt_noise = rows_like(scale * cotangent, momentum_grad)
    return (x_grad, wrt_momentum, wrt_grad, wrt_noise, *(None,) * 10)


_step = differentiable(_ops.sghmc_step.default, _backward, _setup)


@torch.library.register_fake("gencore::sghmc_step")
def _(x: Tensor, momentum: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(momentum)


@torch.library.register_fake("gencore::sghmc_step_")
def _(x: Tensor, *rest: Any) -> None:
    check_fake_devices("sghmc_step_", x, rest)
