"""The fused Langevin step."""

import math
from types import NoneType

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    bounds,
    check_like,
    check_state,
    check_written,
    clip_bound,
    finite,
    index,
    number,
    per_chain,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.langevin_reference import LangevinSettings, native_step, reference_step
from gencore.ops.random import key_like, random_key, thread_key

__all__ = ["langevin_step", "langevin_step_"]

_ops = torch.ops.gencore
_step_inplace = kernel(_ops.langevin_step_.default)
# The overload's own callable: OpOverload.__call__ only forwards to it, for a fifth of the price of
# the whole call.
_step_plain = _ops.langevin_step_.plain._op
_increment_version = torch._C._increment_version  # torch.autograd.graph's, less its isinstance
_NO_KEY = torch.zeros(2, dtype=torch.int64, device="cpu")  # where no noise is drawn
_is_grad_enabled, _is_compiling = torch.is_grad_enabled, torch.compiler.is_compiling


def langevin_step(
    x: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    noise_scale: float | Tensor | None = None,
    *,
    prior_precision: float = 0.0,
    grad_clamp: float | None = None,
    clamp: tuple[float | None, float | None] | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    r"""One step of unadjusted Langevin dynamics, in one pass over memory.

    .. math:: x' = \mathrm{clamp}\big(x - a\,(\mathrm{clip}(g) + \lambda x) + s\,\varepsilon\big),
              \qquad \varepsilon \sim N(0, I)

    with step size a, noise scale s, gradient g = ∇E(x) and prior precision λ (a Gaussian prior
    N(0, 1/λ) added to the energy; 0 is none). Differentiable in ``x``, ``grad`` and ``noise``, to
    any order.

    Args:
        x: states, any shape, float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        grad: gradient of the energy at ``x``; same shape, dtype and device.
        step_size: a ≥ 0; a number, or a tensor with one entry a chain: its shape is that of the
            leading dimensions of ``x``, trailing ones allowed ([N] or [N, 1, 1, 1] for
            [N, C, H, W]). Not differentiated.
        noise_scale: s ≥ 0, like ``step_size``; default √(2a), with which the chain samples
            exp(−E) as a → 0. Zero is gradient descent and draws no noise.
        prior_precision: λ.
        grad_clamp: c > 0 clips the gradient to [−c, c] before the prior is added.
        clamp: (low, high) bounds of the new state; either may be ``None``.
        noise: ε, like ``x``; drawn if ``None``.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part of
            it: the noise is that of the whole.

    Returns:
        x', of the layout of ``x``. NaN in ``x``, ``grad`` or ``noise`` stays NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", Bernoulli 1996. Welling and Teh, "Bayesian learning via stochastic gradient
        Langevin dynamics", ICML 2011.

    Example:
        >>> import torch
        >>> from gencore.ops import langevin_step
        >>> x, generator = torch.zeros(1000, 2), torch.Generator().manual_seed(0)
        >>> for _ in range(100):  # E(x) = ‖x‖²/2, so that ∇E(x) = x; the chain's std is 1.03
        ...     x = langevin_step(x, grad=x, step_size=0.1, generator=generator)
        >>> round(x.std().item(), 1)
        1.0
    """
    settings = langevin_settings(
        "langevin_step", x, grad, step_size, noise_scale, prior_precision, grad_clamp, clamp,
        noise, generator, key, first_element,
    )  # fmt: skip
    if state.reference:
        return reference_step(x, grad, noise, settings)
    result: Tensor = native_step(x, grad, noise, *settings)
    return result


def langevin_step_(
    x: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    noise_scale: float | Tensor | None = None,
    *,
    prior_precision: float = 0.0,
    grad_clamp: float | None = None,
    clamp: tuple[float | None, float | None] | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    """:func:`langevin_step` in place: the form samplers call. Never differentiable.

    Arguments and errors are those of :func:`langevin_step`; besides, a ``ValueError`` where
    autograd would have to differentiate it.

    Returns:
        ``x``, updated.

    Example:
        >>> import torch
        >>> from gencore.ops import langevin_step_
        >>> x = torch.tensor([1.0, -1.0])
        >>> langevin_step_(x, grad=x.clone(), step_size=0.5, noise_scale=0.0)
        tensor([ 0.5000, -0.5000])
    """
    # The common call first, checked by the kernel alone: 64 elements take 0.2 µs, so every check
    # made here would show. Whatever does not fit falls through to the checks that explain.
    try:
        if (
            noise is None
            and clamp is None
            and grad_clamp is None
            and prior_precision == 0.0
            and first_element == 0
            and isinstance(step_size, (float, int))
            and isinstance(noise_scale, (float, int, NoneType))
            and x.is_cpu
            and not _is_grad_enabled()
            and not _is_compiling()
            and not state.chosen
        ):
            if noise_scale is None:
                noise_scale = math.sqrt(2.0 * step_size)
            if key is None and noise_scale == 0.0:
                key = _NO_KEY
            elif key is None:
                key = thread_key.draw() if generator is None else random_key(generator)
            _step_plain(x, grad, key, step_size, noise_scale)
            _increment_version((x,))
            return x
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError):
        pass
    settings = langevin_settings(
        "langevin_step_", x, grad, step_size, noise_scale, prior_precision, grad_clamp, clamp,
        noise, generator, key, first_element,
    )  # fmt: skip
    check_written("langevin_step_", x=x)
    if torch.is_grad_enabled() and (
        x.requires_grad or grad.requires_grad or (noise is not None and noise.requires_grad)
    ):
        raise ValueError(
            "langevin_step_: works in place and is not differentiable, but x, grad or noise "
            "requires grad; call it under torch.no_grad(), or use langevin_step"
        )
    if state.reference:
        with torch.no_grad():
            return x.copy_(reference_step(x, grad, noise, settings))
    _step_inplace(x, grad, noise, *settings)
    if not torch.compiler.is_compiling():
        _increment_version((x,))
    return x


def langevin_settings(
    op: str,
    x: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    noise_scale: float | Tensor | None,
    prior_precision: float,
    grad_clamp: float | None,
    clamp: tuple[float | None, float | None] | None,
    noise: Tensor | None,
    generator: torch.Generator | None,
    key: Tensor | None,
    first_element: int,
) -> LangevinSettings:
    """Check the arguments and bring them to the schemas' form, with the noise's key drawn."""
    check_state(op, x)
    check_like(op, x, grad, "grad")
    if noise is not None:
        check_like(op, x, noise, "noise")
    step_sizes = per_chain(op, "step_size", step_size, x)
    step_number = 0.0 if step_sizes is not None else number(op, "step_size", step_size)
    if noise_scale is None:
        noise_scales = None if step_sizes is None else torch.sqrt(2.0 * step_sizes)
        noise_number = number(op, "noise_scale", math.sqrt(2.0 * step_number))
    else:
        noise_scales = per_chain(op, "noise_scale", noise_scale, x)
        noise_number = 0.0 if noise_scales is not None else number(op, "noise_scale", noise_scale)
    if step_sizes is not None and noise_scales is not None:
        if 1 not in (step_sizes.numel(), noise_scales.numel(), x.numel()) and (
            step_sizes.numel() != noise_scales.numel()
        ):
            raise ValueError(
                f"{op}: step_size has {step_sizes.numel()} chains, noise_scale "
                f"{noise_scales.numel()}; give both the same leading dimensions of x"
            )
        step_sizes, noise_scales = (
            t.contiguous() for t in torch.broadcast_tensors(step_sizes, noise_scales)
        )
    prior = finite(op, "prior_precision", prior_precision)
    clip = clip_bound(op, "grad_clamp", grad_clamp)
    low, high = bounds(op, clamp)
    first_element = index(op, "first_element", first_element)
    needed = noise is None and (noise_scales is not None or noise_number > 0.0)
    key = key_like(op, x, key, generator, needed=needed)
    return LangevinSettings(
        key, step_sizes, noise_scales, step_number, noise_number,
        prior, clip, low, high, first_element,
    )  # fmt: skip
