"""The fused step of Riemannian Langevin dynamics with a diagonal metric."""

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
from gencore.ops._support.kernel import kernel
from gencore.ops.leapfrog_reference import rows, rows_like
from gencore.ops.random import key_like, philox_normal, reference_normal

__all__ = ["riemannian_langevin_step", "riemannian_langevin_step_"]

_ops = torch.ops.gencore
_step_inplace = kernel(_ops.riemannian_langevin_step_.default)
_increment_version = torch._C._increment_version


class _Settings(NamedTuple):
    """What the schemas take after x, grad, metric and correction, in their order."""

    noise: Tensor | None
    key: Tensor | None
    step_sizes: Tensor | None
    step_size: float
    first_element: int

    def step(self) -> Any:
        """The step size as what broadcasts to rows."""
        return self.step_size if self.step_sizes is None else self.step_sizes.view(-1, 1)


def riemannian_langevin_step(
    x: Tensor,
    grad: Tensor,
    metric: Tensor,
    correction: Tensor | None,
    step_size: float | Tensor,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    r"""One step of Langevin dynamics preconditioned by a diagonal metric, in one pass over memory.

    .. math:: x' = x - ε\,(G ∘ g - Γ) + \sqrt{2 ε G} ∘ ξ, \qquad Γ_i = ∂G_{ii}/∂x_i,
              \qquad ξ \sim N(0, I)

    with step size ε and gradient g = ∇E(x) or an unbiased estimate of it. The chain samples exp(−E)
    as ε → 0; without Γ, only where G does not depend on x. Differentiable in ``x``, ``grad``,
    ``metric`` where it is positive, ``correction`` and ``noise``, to any order.

    Args:
        x: states [N, ...] of N chains, float64, float32, bfloat16 or float16. Half types are
            computed in float32 and rounded once.
        grad: g; same shape, dtype and device.
        metric: the diagonal of G at ``x``, like ``x``. Its elements are not looked at; a negative
            one gives NaN.
        correction: Γ at ``x``, like ``x``; ``None`` for a constant metric.
        step_size: ε ≥ 0; a number or one entry a chain: [N], trailing ones allowed. Not
            differentiated.
        noise: ξ, like ``x``; drawn if ``None``.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part of
            it: the noise is that of the whole.

    Returns:
        x', of the layout of ``x``.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Patterson and Teh, "Stochastic gradient Riemannian Langevin dynamics on the probability
        simplex", NeurIPS 2013. Ma, Chen and Fox, "A complete recipe for stochastic gradient MCMC",
        NeurIPS 2015, with D = G and Q = 0.

    Example:
        >>> import torch
        >>> from gencore.ops import riemannian_langevin_step
        >>> x, noise = torch.tensor([1.0, 2.0]), torch.zeros(2)
        >>> metric, correction = x.square(), 2 * x  # G = x², Γ = 2x
        >>> riemannian_langevin_step(x, torch.ones(2), metric, correction, 0.1, noise=noise)
        tensor([1.1000, 2.0000])
    """
    settings = _settings(
        "riemannian_langevin_step", x, grad, metric, correction, step_size,
        noise, generator, key, first_element,
    )  # fmt: skip
    if state.reference:
        return _reference(x, grad, metric, correction, settings)
    result: Tensor = _step(x, grad, metric, correction, *settings)
    return result


def riemannian_langevin_step_(
    x: Tensor,
    grad: Tensor,
    metric: Tensor,
    correction: Tensor | None,
    step_size: float | Tensor,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    """:func:`riemannian_langevin_step` in place: the form samplers call. Never differentiable.

    Arguments and errors are those of :func:`riemannian_langevin_step`; besides, a ``ValueError``
    where autograd would have to differentiate it.

    Returns:
        ``x``, updated.

    Example:
        >>> import torch
        >>> from gencore.ops import riemannian_langevin_step_
        >>> x, one = torch.zeros(2), torch.ones(2)
        >>> riemannian_langevin_step_(x, one, 2 * one, None, 0.25, noise=one)
        tensor([0.5000, 0.5000])
    """
    op = "riemannian_langevin_step_"
    settings = _settings(
        op, x, grad, metric, correction, step_size, noise, generator, key, first_element
    )
    check_written(op, x=x)
    check_not_differentiated(
        op, op[:-1], x=x, grad=grad, metric=metric, correction=correction, noise=noise
    )
    if state.reference:
        with torch.no_grad():
            return x.copy_(_reference(x, grad, metric, correction, settings))
    _step_inplace(x, grad, metric, correction, *settings)
    if not torch.compiler.is_compiling():
        _increment_version((x,))
    return x


def _settings(
    op: str,
    x: Tensor,
    grad: Tensor,
    metric: Tensor,
    correction: Tensor | None,
    step_size: float | Tensor,
    noise: Tensor | None,
    generator: torch.Generator | None,
    key: Tensor | None,
    first_element: int,
) -> _Settings:
    """Check the arguments and bring them to the schemas' form, with the noise's key drawn."""
    check_state(op, x)
    check_chains(op, x)
    check_like(op, x, grad, "grad")
    check_like(op, x, metric, "metric")
    if correction is not None:
        check_like(op, x, correction, "correction")
    if noise is not None:
        check_like(op, x, noise, "noise")
    steps = per_row(op, "step_size", step_size, x)
    step_number = 0.0 if steps is not None else number(op, "step_size", step_size)
    needed = noise is None and (steps is not None or step_number > 0.0)
    key = key_like(op, x, key, generator, needed=needed)
    return _Settings(noise, key, steps, step_number, index(op, "first_element", first_element))


# Reference and derivatives are written over rows [N, D] in the accumulation dtype, with √(2ε) and
# √G apart, so that their product is neither lost nor infinite before its time.


def _reference(
    x: Tensor, grad: Tensor, metric: Tensor, correction: Tensor | None, s: _Settings
) -> Tensor:
    """The step in pure PyTorch."""
    noise = s.noise
    if noise is None and s.key is not None:
        noise = reference_normal(x.shape, s.key, s.first_element, accumulation_dtype(x))
    diagonal = rows(metric)  # once, so that its derivative is rounded once
    drift = diagonal * rows(grad)
    if correction is not None:
        drift = drift - rows(correction)
    result = rows(x) - s.step() * drift
    if noise is not None:
        result = result + (2.0 * s.step()) ** 0.5 * diagonal.sqrt() * rows(noise)
    return rows_like(result, x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, grad, metric, _, *settings = inputs
    s = _Settings(*settings)
    ctx.save_for_backward(grad, metric, s.noise, s.key, s.step_sizes)
    ctx.numbers = s[3:]


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    # In torch's operators, so that autograd has every further derivative.
    grad, metric, *tensors = ctx.saved_tensors
    s = _Settings(*tensors, *ctx.numbers)
    step, root_step = s.step(), (2.0 * s.step()) ** 0.5
    root_metric, cotangent = rows(metric).sqrt(), rows(grad_out)
    _, needs_grad, needs_metric, needs_correction, needs_noise = ctx.needs_input_grad[:5]
    wrt_grad = wrt_metric = wrt_correction = wrt_noise = None
    if needs_grad:
        wrt_grad = rows_like(-step * rows(metric) * cotangent, grad_out)
    if needs_metric:
        slope, noise = -step * rows(grad), s.noise
        if noise is None and s.key is not None:  # which makes the forward's noise again
            noise = philox_normal(
                metric.shape, s.key, first_element=s.first_element, dtype=slope.dtype
            )
        if noise is not None:
            slope = slope + 0.5 * root_step / root_metric * rows(noise)
        wrt_metric = rows_like(slope * cotangent, grad_out)
    if needs_correction:
        wrt_correction = rows_like(step * cotangent, grad_out)
    if needs_noise:
        wrt_noise = rows_like(root_step * root_metric * cotangent, grad_out)
    return (grad_out, wrt_grad, wrt_metric, wrt_correction, wrt_noise, *(None,) * 4)


_step = differentiable(_ops.riemannian_langevin_step.default, _backward, _setup)


@torch.library.register_fake("gencore::riemannian_langevin_step")
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("gencore::riemannian_langevin_step_")
def _(x: Tensor, *rest: Any) -> None:
    check_fake_devices("riemannian_langevin_step_", x, rest)
