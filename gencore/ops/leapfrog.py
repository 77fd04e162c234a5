"""The leapfrog integrator of Hamiltonian Monte Carlo, a fused operator for each of its parts."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    check_chains,
    check_like,
    check_state,
    check_written,
    index,
    number,
    per_row,
    wants_grad,
)
from gencore.ops._support.checks import (
    inverse_mass as checked_inverse_mass,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.leapfrog_reference import (
    Coefficients,
    native_end,
    native_start,
    native_step,
    reference_end,
    reference_start,
    reference_step,
)
from gencore.ops.random import key_like

__all__ = [
    "LeapfrogEnd",
    "LeapfrogStart",
    "leapfrog_coefficients",
    "leapfrog_end",
    "leapfrog_start",
    "leapfrog_step",
    "leapfrog_step_",
]

_ops = torch.ops.gencore
_step_inplace = kernel(_ops.leapfrog_step_.default)
# The overload's own callable, for a fifth of the price of the whole call.
_step_plain = _ops.leapfrog_step_.plain._op
_increment_version = torch._C._increment_version  # torch.autograd.graph's, less its isinstance
_is_grad_enabled, _is_compiling = torch.is_grad_enabled, torch.compiler.is_compiling


class LeapfrogStart(NamedTuple):
    """What :func:`leapfrog_start` makes of the states."""

    position: Tensor
    """[N, ...]: after the first drift."""
    momentum: Tensor
    """[N, ...]: after the first half kick."""
    kinetic: Tensor
    """[N]: the kinetic energy of the fresh momentum, before the kick; at least float32."""


class LeapfrogEnd(NamedTuple):
    """What :func:`leapfrog_end` makes of the momentum."""

    momentum: Tensor
    """[N, ...]: after the last half kick."""
    kinetic: Tensor
    """[N]: its kinetic energy; at least float32."""


def leapfrog_start(
    x: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> LeapfrogStart:
    r"""Fresh momenta and the first leapfrog step up to its second gradient, in one pass.

    .. math:: p_0 = \varepsilon / \sqrt{m^{-1}}, \quad K = \tfrac12 \textstyle\sum m^{-1} p_0^2,
              \quad p = p_0 - \tfrac{\epsilon}{2} g, \quad x' = x + \epsilon\, m^{-1} p,
              \qquad \varepsilon \sim N(0, I)

    with step size ε, gradient g = ∇E(x) and inverse mass m⁻¹. With ε = √(2a) and unit mass, x' is
    the proposal of MALA of step size a. Differentiable in ``x``, ``grad`` and ``noise``, to any
    order.

    Args:
        x: states [N, ...], float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        grad: gradient of the energy at ``x``; same shape, dtype and device.
        step_size: ε ≥ 0; a number or one entry a chain: [N], trailing ones allowed.
        inverse_mass: m⁻¹ > 0, the diagonal of the inverse mass matrix: a number, one entry a chain,
            or anything that broadcasts to ``x`` (a shape of ``x.shape[1:]`` is shared by the
            chains). [N] where the last dimension of ``x`` is N too could mean either, and is
            refused: write [N, 1, ...] or [1, ..., N].
        noise: standard normals like ``x``; drawn if ``None``.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part of
            it: the noise is that of the whole.

    Returns:
        (position [N, ...], momentum [N, ...], kinetic [N]), the last in float32, or float64 for
        float64.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011,
        eqs. 5.18 and 5.19.

    Example:
        >>> import torch
        >>> from gencore.ops import leapfrog_start
        >>> x, noise = torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])
        >>> start = leapfrog_start(x, grad=torch.ones(1, 2), step_size=0.5, noise=noise)
        >>> start.position, start.momentum, start.kinetic
        (tensor([[ 0.3750, -0.6250]]), tensor([[ 0.7500, -1.2500]]), tensor([1.]))
    """
    op = "leapfrog_start"
    check_state(op, x)
    check_chains(op, x)
    check_like(op, x, grad, "grad")
    if noise is not None:
        check_like(op, x, noise, "noise")
    coefficients = leapfrog_coefficients(op, x, step_size, inverse_mass)
    first_element = index(op, "first_element", first_element)
    key = key_like(op, x, key, generator, needed=noise is None)
    if state.reference:
        return LeapfrogStart(*reference_start(x, grad, noise, key, coefficients, first_element))
    return LeapfrogStart(*native_start(x, grad, noise, key, *coefficients, first_element))


def leapfrog_step(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""A leapfrog step between two others: a whole kick, then a drift, in one pass.

    .. math:: p' = p - \epsilon\, g, \qquad x' = x + \epsilon\, m^{-1} p'

    The two half kicks of neighbouring steps are one, so that L steps are a
    :func:`leapfrog_start`, L − 1 of these and a :func:`leapfrog_end`. Differentiable in ``x``,
    ``momentum`` and ``grad``, to any order.

    Args:
        x: states [N, ...].
        momentum: p; same shape, dtype and device.
        grad: gradient of the energy at ``x``; same shape, dtype and device.
        step_size: ε, as in :func:`leapfrog_start`.
        inverse_mass: m⁻¹, as in :func:`leapfrog_start`.

    Returns:
        (x', p'), of the layouts of ``x`` and ``momentum``. NaN stays NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011,
        eqs. 5.18 to 5.20.

    Example:
        >>> import torch
        >>> from gencore.ops import leapfrog_step
        >>> x, p = torch.zeros(1, 1), torch.ones(1, 1)
        >>> leapfrog_step(x, p, grad=torch.ones(1, 1), step_size=0.5)
        (tensor([[0.2500]]), tensor([[0.5000]]))
    """
    coefficients = _step_coefficients("leapfrog_step", x, momentum, grad, step_size, inverse_mass)
    if state.reference:
        return reference_step(x, momentum, grad, coefficients)
    position, new_momentum = native_step(x, momentum, grad, *coefficients)
    return position, new_momentum


def leapfrog_step_(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """:func:`leapfrog_step` in place: the form samplers call. Never differentiable.

    Arguments and errors are those of :func:`leapfrog_step`; besides, a ``ValueError`` where
    autograd would have to differentiate it, or where ``x`` and ``momentum`` share memory.

    Returns:
        ``x`` and ``momentum``, updated.

    Example:
        >>> import torch
        >>> from gencore.ops import leapfrog_step_
        >>> x, p = torch.zeros(1, 1), torch.ones(1, 1)
        >>> leapfrog_step_(x, p, grad=torch.ones(1, 1), step_size=0.5)
        (tensor([[0.2500]]), tensor([[0.5000]]))
    """
    # The common call first, checked by the kernel alone: every check made here would show beside
    # the step of a small state. Whatever does not fit falls through to the checks that explain.
    try:
        if (
            isinstance(step_size, (float, int))
            and isinstance(inverse_mass, (float, int))
            and x.is_cpu
            and not _is_grad_enabled()
            and not _is_compiling()
            and not state.reference
        ):
            _step_plain(x, momentum, grad, step_size, inverse_mass)
            _increment_version((x, momentum))
            return x, momentum
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError):
        pass
    op = "leapfrog_step_"
    coefficients = _step_coefficients(op, x, momentum, grad, step_size, inverse_mass)
    check_written(op, x=x, momentum=momentum)
    if wants_grad(x, momentum, grad):
        raise ValueError(
            f"{op}: works in place and is not differentiable, but x, momentum or grad requires "
            "grad; call it under torch.no_grad(), or use leapfrog_step"
        )
    if state.reference:
        with torch.no_grad():
            position, new_momentum = reference_step(x, momentum, grad, coefficients)
            return x.copy_(position), momentum.copy_(new_momentum)
    _step_inplace(x, momentum, grad, *coefficients)
    if not _is_compiling():
        _increment_version((x, momentum))
    return x, momentum


def leapfrog_end(
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> LeapfrogEnd:
    r"""The last half kick of a trajectory and the kinetic energy after it, in one pass.

    .. math:: p' = p - \tfrac{\epsilon}{2} g, \qquad K = \tfrac12 \textstyle\sum m^{-1} p'^2

    Differentiable in ``momentum`` and ``grad``, to any order.

    Args:
        momentum: p [N, ...].
        grad: gradient of the energy at the trajectory's end; same shape, dtype and device.
        step_size: ε, as in :func:`leapfrog_start`.
        inverse_mass: m⁻¹, as in :func:`leapfrog_start`, with ``momentum`` for ``x``.

    Returns:
        (momentum [N, ...], kinetic [N]), the last in float32, or float64 for float64.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011,
        eq. 5.20.

    Example:
        >>> import torch
        >>> from gencore.ops import leapfrog_end
        >>> leapfrog_end(torch.tensor([[2.5]]), grad=torch.ones(1, 1), step_size=1.0)
        LeapfrogEnd(momentum=tensor([[2.]]), kinetic=tensor([2.]))
    """
    op = "leapfrog_end"
    check_state(op, momentum, "momentum")
    check_chains(op, momentum, "momentum")
    check_like(op, momentum, grad, "grad", "momentum")
    coefficients = leapfrog_coefficients(op, momentum, step_size, inverse_mass)
    if state.reference:
        return LeapfrogEnd(*reference_end(momentum, grad, coefficients))
    return LeapfrogEnd(*native_end(momentum, grad, *coefficients))


def _step_coefficients(
    op: str,
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor,
) -> Coefficients:
    check_state(op, x)
    check_chains(op, x)
    check_like(op, x, momentum, "momentum")
    check_like(op, x, grad, "grad")
    return leapfrog_coefficients(op, x, step_size, inverse_mass)


def leapfrog_coefficients(
    op: str, x: Tensor, step_size: float | Tensor, inverse_mass: float | Tensor
) -> Coefficients:
    """Check the coefficients and bring them to the schemas' form."""
    step_sizes = per_row(op, "step_size", step_size, x)
    step_number = 0.0 if step_sizes is not None else number(op, "step_size", step_size)
    inverse_masses, mass_number = checked_inverse_mass(op, inverse_mass, x)
    return Coefficients(step_sizes, inverse_masses, step_number, mass_number)
