"""Whole Markov chains on the energy of a small network, in one call."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_native_device, index, wants_grad
from gencore.ops.langevin import langevin_settings
from gencore.ops.langevin_reference import LangevinSettings, reference_step
from gencore.ops.mlp import MLP, ActivationName, as_mlp, energy_gradient
from gencore.ops.random import split_key

__all__ = ["mlp_langevin_chain"]

_ops = torch.ops.gencore


def mlp_langevin_chain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    num_steps: int,
    step_size: float | Tensor,
    noise_scale: float | Tensor | None = None,
    *,
    activation: ActivationName = "silu",
    negative_slope: float = 0.01,
    prior_precision: float = 0.0,
    grad_clamp: float | None = None,
    clamp: tuple[float | None, float | None] | None = None,
    return_trajectory: bool = False,
    thin: int = 1,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    r"""K Langevin steps of every chain on the energy of a small network.

    .. math:: x_{k+1} = \mathrm{clamp}\big(x_k - a\,(\mathrm{clip}(\nabla f(x_k)) + \lambda x_k)
              + s\,\varepsilon_k\big), \qquad k = 0, \dots, K - 1

    with f the network of :func:`~gencore.ops.mlp.mlp_energy`, whose gradient is computed inside. A
    block of chains stays in cache (on a GPU: in shared memory) from its first step to its last.
    Step k uses key k of ``split_key(key, num_steps)``: the noise is that of ``num_steps`` calls of
    :func:`~gencore.ops.langevin_step`. Half types are kept in float32 between the steps.
    Differentiable in ``x``, ``weights``, ``biases`` and ``noise``, to any order, by running the
    chain again in PyTorch; memory then grows with the number of steps.

    Args:
        x: starts, [N, D]; float64, float32, bfloat16 or float16.
        weights: W₁ [H₁, D], …, wᵀ [1, H_L], with at most four hidden layers; none leaves the prior.
        biases: b₁ [H₁], …, b [1].
        num_steps: K ≥ 1.
        step_size: a ≥ 0; a number, or one a chain.
        noise_scale: s ≥ 0, likewise; default √(2a).
        activation: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: slope of the leaky ReLU below zero.
        prior_precision: λ.
        grad_clamp: clips ∇f, elementwise.
        clamp: (low, high) bounds of the states.
        return_trajectory: keep the states after steps ``thin``, ``2 * thin``, …, K.
        thin: a divisor of K.
        noise: ε, [K, N, D].
        generator: where the key is drawn from.
        key: int64 ``[seed, offset]`` instead of a generator.
        first_element: index of ``x``'s first element in the whole batch.

    Returns:
        Final states [N, D], or the trajectory [K / thin, N, D].

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, eq. (2.15).

    Example:
        >>> import torch
        >>> from gencore.ops import mlp_langevin_chain
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = mlp_langevin_chain(torch.zeros(4000, 2), [], [], 100, 0.1, prior_precision=1.0,
        ...                        generator=generator)
        >>> round(x.std().item(), 1)  # N(0, I), widened by the steps' length
        1.0
    """
    op = "mlp_langevin_chain"
    mlp = as_mlp(op, x, weights, biases, activation, negative_slope)
    num_steps, thin = steps(op, num_steps, thin, return_trajectory)
    if noise is not None and (noise.shape != (num_steps, *x.shape) or noise.dtype != x.dtype):
        raise ValueError(
            f"{op}: noise is {noise.dtype} of shape {list(noise.shape)}, "
            f"expected {x.dtype} of shape {[num_steps, *x.shape]}"
        )
    settings = langevin_settings(
        op, x, x, step_size, noise_scale, prior_precision, grad_clamp, clamp,
        None if noise is None else noise[0], generator, key, first_element,
    )  # fmt: skip
    settings = settings._replace(
        step_sizes=each_chain(settings.step_sizes, x),
        noise_scales=each_chain(settings.noise_scales, x),
    )
    kept = num_steps if not return_trajectory else thin
    if state.reference:
        result = _reference(x, mlp, num_steps, kept, noise, settings)
    else:
        check_native_device(op, x)
        limit = longest_part(x, mlp, 1)
        if num_steps <= limit or wants_grad(x, mlp.parameters, noise):
            result = _chain(x, *mlp, num_steps, kept, noise, *settings)
        else:

            def run(states: Tensor, first: int, count: int, every: int) -> Tensor:
                part = None if noise is None else noise[first : first + count].to(states.dtype)
                key = None if settings.key is None else key_after(settings.key, first)
                at = settings._replace(key=key)
                kept_states: Tensor = _chain(states, *mlp, count, every, part, *at)
                return kept_states

            result = run_in_parts(x, num_steps, kept, limit, run)
    return result if return_trajectory else result.squeeze(0)


def steps(op: str, num_steps: int, thin: int, return_trajectory: bool) -> tuple[int, int]:
    """The numbers of steps and of those between two states kept, or raise."""
    num_steps, thin = index(op, "num_steps", num_steps), index(op, "thin", thin)
    if num_steps == 0:
        raise ValueError(f"{op}: num_steps must be at least 1, got 0")
    if thin == 0 or num_steps % thin or (thin > 1 and not return_trajectory):
        raise ValueError(
            f"{op}: thin must divide num_steps = {num_steps} and needs return_trajectory=True, "
            f"got {thin}"
        )
    return num_steps, thin


_PART = 2**33  # multiplications of a call of a kernel, about a second's work of a thread


def longest_part(x: Tensor, mlp: MLP, num_gradients: int) -> int:
    """How many steps of so many gradients one call of a kernel makes. Python hears Ctrl-C between
    two calls alone, so that a longer chain takes several."""
    if torch.compiler.is_compiling():
        return sys.maxsize
    chains = x.shape[0] + 32  # at least a block's lanes are computed
    return max(_PART // (chains * (mlp.parameters.numel() + 256) * max(num_gradients, 1)), 1)


def most_chains(x: Tensor, mlp: MLP, num_gradients: int) -> int:
    """How many chains one call of a CPU kernel takes where a step of so many gradients of all of
    them would be longer than a part."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return sys.maxsize
    blocks = 32 * torch.get_num_threads()  # one for every thread
    most = _PART // ((mlp.parameters.numel() + 256) * max(num_gradients, 1))
    return max(most - most % blocks, blocks)


def key_after(key: Tensor, steps: int) -> Tensor:
    """The key from which a chain goes on after so many steps."""
    return torch.stack([key[0], key[1] + steps])


def run_in_parts(
    x: Tensor,
    num_steps: int,
    thin: int,
    limit: int,
    run: Callable[[Tensor, int, int, int], Tensor],
) -> Tensor:
    """A chain of calls ``run(states, first step, number of steps, thin)``, none of more than
    ``limit`` steps, unless that is below 1. States are handed on in the accumulation dtype, as
    inside a kernel, so that the chain is the same to the last bit."""
    trajectory = x.new_empty([num_steps // thin, *x.shape])
    states, kept = x.detach().to(accumulation_dtype(x)), 0
    most = limit - limit % thin if thin <= limit else limit
    first = 0
    while first < num_steps:
        # Parts are of whole intervals between kept states, or such an interval is of parts.
        end = num_steps if thin <= limit else first - first % thin + thin
        count = min(most, end - first)
        states_kept = run(states, first, count, thin if thin <= limit else count)
        first, states = first + count, states_kept[-1]
        if first % thin == 0:
            trajectory[kept : kept + len(states_kept)] = states_kept
            kept += len(states_kept)
    return trajectory


def each_chain(values: Tensor | None, x: Tensor) -> Tensor | None:
    """A checked coefficient with an entry for every chain."""
    return values if values is None else values.expand(x.shape[0]).contiguous()


def _reference(
    x: Tensor, mlp: MLP, num_steps: int, thin: int, noise: Tensor | None, settings: LangevinSettings
) -> Tensor:
    """The chain in PyTorch, one step after the other."""
    states, kept = x.to(accumulation_dtype(x)), []
    keys = [None] * num_steps if settings.key is None else split_key(settings.key, num_steps)
    for k, key in enumerate(keys):
        _, grad = energy_gradient(states, mlp, 0.0)
        states = reference_step(
            states, grad, None if noise is None else noise[k], settings._replace(key=key)
        )
        if (k + 1) % thin == 0:
            kept.append(states)
    return torch.stack(kept).to(x.dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, parameters, *numbers, noise = inputs[:8]
    settings = LangevinSettings(*inputs[8:])
    ctx.save_for_backward(x, parameters, noise, *settings[:3])
    ctx.numbers = (*numbers, settings[3:])


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    x, parameters, noise, *tensors = ctx.saved_tensors
    widths, kind, slope, num_steps, thin, numbers = ctx.numbers
    operands = (x, parameters, noise)
    needs = [ctx.needs_input_grad[place] for place in (0, 1, 7)]

    def reference(x: Tensor, parameters: Tensor, noise: Tensor | None) -> Tensor:
        settings = LangevinSettings(*tensors, *numbers)
        mlp = MLP(parameters, widths, kind, slope)
        return _reference(x, mlp, num_steps, thin, noise, settings)

    found = gradients_of_reference(reference, operands, [grad_out], needs)
    # A network without layers has no gradient: zeros, as the operator's caller expects.
    grads = [
        torch.zeros_like(t) if need and grad is None and t is not None else grad
        for t, grad, need in zip(operands, found, needs, strict=True)
    ]
    nothing = (None,) * 5
    return (grads[0], grads[1], *nothing, grads[2], *(None,) * len(LangevinSettings._fields))


_chain = differentiable(_ops.mlp_langevin_chain.default, _backward, _setup)


@torch.library.register_fake("gencore::mlp_langevin_chain")
def _(
    x: Tensor, parameters: Tensor, widths: list[int], kind: int, slope: float, num_steps: int,
    thin: int, *_: Any,
) -> Tensor:  # fmt: skip
    return x.new_empty([num_steps // thin, *x.shape])
