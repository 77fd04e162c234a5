"""The fused step of stochastic-gradient Hamiltonian Monte Carlo."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops.backend import state
from gencore.ops.checks import (
    accumulation_dtype,
    check_distinct,
    check_fake_devices,
    check_like,
    check_not_differentiated,
    check_overlap,
    check_state,
    index,
    wants_grad,
)
from gencore.ops.coefficients import Coefficient, coefficient, inverse_mass, thermal_noise
from gencore.ops.random import noise_key, reference_normal

__all__ = ["sghmc_step", "sghmc_step_"]

_ops = torch.ops.gencore
_plain = _ops.sghmc_step.no_autograd
_increment_version = torch._C._increment_version


class _Settings(NamedTuple):
    """What the schemas of SGHMC take after x and momentum."""

    grad: Tensor
    noise: Tensor | None
    key: Tensor | None
    step_size: Coefficient
    friction: Coefficient
    inverse_mass: Coefficient
    noise_scale: Coefficient
    first_element: int

    def flat(self) -> tuple[Any, ...]:
        coefficients = self[3:7]
        return (
            *self[:3],
            *(c.values for c in coefficients),
            *(c.number for c in coefficients),
            self.inverse_mass.run,
            self.first_element,
        )


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
        x: positions, any shape, float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        momentum: p; same shape, dtype and device.
        grad: g, like ``x``.
        step_size: ε ≥ 0; a number, or a tensor with one entry a chain, whose shape is that of the
            leading dimensions of ``x``, trailing ones allowed.
        friction: C ≥ 0, like ``step_size``.
        inverse_mass: m⁻¹ > 0; a number, one entry a chain, or a tensor that broadcasts to ``x``. Of
            one dimension it is read as one entry a chain where it has as many, also where ``x`` is
            square; [1, D] says otherwise.
        noise_scale: s ≥ 0, like ``step_size``; default √(2Cε), with which the chain samples
            exp(−E − p²/2m) as ε → 0. Where the variance V of the gradient's own noise is known,
            √(2Cε − ε²V) takes it into account. Zero draws no noise.
        noise: ξ, like ``x``; drawn if ``None``.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, draw]`` (:func:`random_key`) instead of a generator.
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
    op = _ops.sghmc_step.default if wants_grad(x, momentum, grad, noise) else _plain
    result: tuple[Tensor, Tensor] = op(x, momentum, *settings.flat())
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
    check_overlap(op, x)
    check_overlap(op, momentum, "momentum")
    check_distinct(op, "x", x, "momentum", momentum)
    check_not_differentiated(op, "sghmc_step", x=x, momentum=momentum, grad=grad, noise=noise)
    if state.reference:
        with torch.no_grad():
            position, velocity = _reference(x, momentum, settings)
            return x.copy_(position), momentum.copy_(velocity)
    _ops.sghmc_step_(x, momentum, *settings.flat())
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
    check_like(op, x, momentum, "momentum")
    check_like(op, x, grad, "grad")
    if noise is not None:
        check_like(op, x, noise, "noise")
    step = coefficient(op, "step_size", step_size, x)
    drag = coefficient(op, "friction", friction, x)
    if noise_scale is None:
        scale = thermal_noise(drag, step)
    else:
        scale = coefficient(op, "noise_scale", noise_scale, x)
    return _Settings(
        grad,
        noise,
        noise_key(op, x, noise, key, generator, needed=not scale.is_zero),
        step,
        drag,
        inverse_mass(op, mass, x),
        scale,
        index(op, "first_element", first_element),
    )


def _reference(x: Tensor, momentum: Tensor, s: _Settings) -> tuple[Tensor, Tensor]:
    """The step in pure PyTorch, in the accumulation dtype."""
    accumulate = accumulation_dtype(x)
    step, friction, mass, scale = (c.broadcast(x.shape) for c in s[3:7])
    p = momentum.to(accumulate)
    p = p - step * (s.grad.to(accumulate) + friction * (mass * p))
    noise = s.noise
    if noise is None and s.key is not None:
        noise = reference_normal(x.shape, s.key, s.first_element, accumulate)
    if noise is not None:
        p = p + scale * noise.to(accumulate)
    return (x.to(accumulate) + step * (mass * p)).to(x.dtype), p.to(x.dtype)


# The step is linear, so that its adjoint, written with torch's operators, has every derivative.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, *settings = inputs
    ctx.save_for_backward(*settings[3:7])
    ctx.shape, ctx.numbers, ctx.mass_run = x.shape, settings[7:11], settings[11]
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, x_grad: Tensor | None, momentum_grad: Tensor | None
) -> tuple[Tensor | None, ...]:
    given = momentum_grad if x_grad is None else x_grad
    if given is None:
        return (None,) * len(ctx.needs_input_grad)
    runs = (0, 0, ctx.mass_run, 0)
    step, friction, mass, scale = (
        coefficient.broadcast(ctx.shape)
        for coefficient in map(Coefficient, ctx.saved_tensors, ctx.numbers, runs)
    )
    accumulate = accumulation_dtype(given)
    # p' enters x' as well.
    cotangent: Any = 0.0 if momentum_grad is None else momentum_grad.to(accumulate)
    if x_grad is not None:
        cotangent = cotangent + step * (mass * x_grad.to(accumulate))
    adjoints = (
        x_grad,
        cotangent - step * (friction * (mass * cotangent)),
        -step * cotangent,
        scale * cotangent,
    )
    needed = (
        adjoint.to(given.dtype) if needs and adjoint is not None else None
        for adjoint, needs in zip(adjoints, ctx.needs_input_grad, strict=False)
    )
    return (*needed, *(None,) * (len(ctx.needs_input_grad) - 4))


torch.library.register_autograd("gencore::sghmc_step", _backward, setup_context=_setup)


@torch.library.register_fake("gencore::sghmc_step")
@torch.library.register_fake("gencore::sghmc_step.no_autograd")
def _(x: Tensor, momentum: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(momentum)


@torch.library.register_fake("gencore::sghmc_step_")
def _(x: Tensor, *rest: Any) -> None:
    check_fake_devices("sghmc_step_", x, rest)
