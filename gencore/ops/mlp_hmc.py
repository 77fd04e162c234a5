"""Whole Hamiltonian Monte Carlo chains on the energy of a small network, in one call."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_native_device,
    finite,
    index,
    number,
    per_chain,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.metropolis import FIRST_DECISION
from gencore.ops.mlp import MLP, ActivationName, as_mlp, energy_gradient
from gencore.ops.mlp_chain import (
    each_chain,
    key_after,
    longest_part,
    most_chains,
    run_in_parts,
    steps,
)
from gencore.ops.random import key_like, philox_words, reference_normal, split_key

__all__ = ["MLPHMCChain", "mlp_hmc_chain"]

_chain = kernel(torch.ops.gencore.mlp_hmc_chain.default)


class MLPHMCChain(NamedTuple):
    """What :func:`mlp_hmc_chain` returns; the counts and energies are one a chain, [N]."""

    position: Tensor
    """Final states [N, D], or the trajectory [K / thin, N, D]."""
    energy: Tensor
    """Energy of the final states."""
    acceptance_rate: Tensor
    """Mean probability of acceptance over the transitions."""
    num_accepted: Tensor
    """Transitions accepted."""
    num_divergent: Tensor
    """Transitions whose energy error was above the bound, or not finite."""


def mlp_hmc_chain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    num_steps: int,
    step_size: float | Tensor,
    num_leapfrog: int,
    *,
    inverse_mass: float | Tensor = 1.0,
    activation: ActivationName = "silu",
    negative_slope: float = 0.01,
    prior_precision: float = 0.0,
    max_energy_error: float = 1000.0,
    return_trajectory: bool = False,
    thin: int = 1,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> MLPHMCChain:
    r"""K transitions of Hamiltonian Monte Carlo on the energy of a small network.

    One transition draws p ~ N(0, M), makes L leapfrog steps of

    .. math:: p \leftarrow p - \tfrac{\epsilon}{2}\nabla E(x), \quad x \leftarrow x + \epsilon
              M^{-1} p, \quad p \leftarrow p - \tfrac{\epsilon}{2}\nabla E(x)

    and accepts the end with probability min(1, exp(H − H')), H = E(x) + ½ pᵀM⁻¹p, where E is
    :func:`~gencore.ops.mlp.mlp_energy`. A proposal that is not finite is rejected. A block of
    chains stays in cache (on a GPU: in shared memory) throughout; K transitions cost K·L + 1
    gradients. Transition k draws from key k of ``split_key(key, num_steps)``, what
    :class:`gencore.samplers.HMC` would draw. Never differentiable.

    Args:
        x: starts, [N, D]; float64, float32, bfloat16 or float16.
        weights: W₁ [H₁, D], …, wᵀ [1, H_L], with at most four hidden layers; none leaves the prior.
        biases: b₁ [H₁], …, b [1].
        num_steps: K ≥ 1 transitions.
        step_size: ε ≥ 0; a number, or one a chain.
        num_leapfrog: L ≥ 1.
        inverse_mass: the diagonal of M⁻¹ > 0; a number, or [D].
        activation: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: slope of the leaky ReLU below zero.
        prior_precision: λ of the energy's Gaussian prior.
        max_energy_error: H' − H above which a transition counts as divergent.
        return_trajectory: keep the states after transitions ``thin``, ``2 * thin``, …, K.
        thin: a divisor of K.
        generator: where the key is drawn from.
        key: int64 ``[seed, offset]`` instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, a multiple of D.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    References:
        Neal, "MCMC using Hamiltonian dynamics", in *Handbook of Markov Chain Monte Carlo*, 2011.

    Example:
        >>> import torch
        >>> from gencore.ops import mlp_hmc_chain
        >>> generator = torch.Generator().manual_seed(0)
        >>> chain = mlp_hmc_chain(torch.zeros(4000, 2), [], [], 20, 0.5, 4, prior_precision=4.0,
        ...                       generator=generator)
        >>> round(chain.position.std().item(), 1)  # N(0, I/4)
        0.5
    """
    op = "mlp_hmc_chain"
    mlp = as_mlp(op, x, weights, biases, activation, negative_slope)
    num_steps, thin = steps(op, num_steps, thin, return_trajectory)
    kept = thin if return_trajectory else num_steps
    num_leapfrog = index(op, "num_leapfrog", num_leapfrog)
    if num_leapfrog == 0:
        raise ValueError(f"{op}: num_leapfrog must be at least 1, got 0")
    if torch.is_grad_enabled() and (x.requires_grad or mlp.parameters.requires_grad):
        x, mlp = x.detach(), mlp._replace(parameters=mlp.parameters.detach())
    step_sizes = each_chain(per_chain(op, "step_size", step_size, x), x)
    step_number = 0.0 if step_sizes is not None else number(op, "step_size", step_size)
    masses, mass = _inverse_masses(op, inverse_mass, x)
    first_element = index(op, "first_element", first_element)
    first_chain = first_element // x.shape[1]
    if first_element % x.shape[1]:
        raise ValueError(
            f"{op}: first_element is {first_element}, expected a multiple of D = {x.shape[1]}"
        )
    key = key_like(op, x, key, generator, needed=True)
    assert key is not None
    settings = _Settings(
        key, step_sizes, masses, step_number, mass,
        finite(op, "prior_precision", prior_precision),
        number(op, "max_energy_error", max_energy_error), first_chain,
        FIRST_DECISION + first_chain,
    )  # fmt: skip
    if state.reference:
        chain = _reference(x, mlp, num_steps, kept, num_leapfrog, settings)
    else:
        check_native_device(op, x)
        limit = longest_part(x, mlp, num_leapfrog)
        run = _run if num_steps <= limit else partial(_run_in_parts, limit=limit)
        most = most_chains(x, mlp, num_leapfrog)
        chain = _run_by_chains(partial(run, mlp, num_steps, kept, num_leapfrog), x, settings, most)
    return chain if return_trajectory else chain._replace(position=chain.position.squeeze(0))


class _Settings(NamedTuple):
    key: Tensor
    step_sizes: Tensor | None
    inverse_masses: Tensor | None
    step_size: float
    inverse_mass: float
    prior_precision: float
    max_energy_error: float
    first_chain: int
    first_uniform: int


def _run_by_chains(
    run: Callable[[Tensor, _Settings], MLPHMCChain], x: Tensor, s: _Settings, most: int
) -> MLPHMCChain:
    """A batch by parts of at most so many chains: a transition of many leapfrog steps of many
    chains takes long, and Python hears Ctrl-C between two calls alone."""
    if x.shape[0] <= most:
        return run(x, s)
    parts = []
    for first in range(0, x.shape[0], most):
        some = slice(first, first + most)
        at = s._replace(
            step_sizes=None if s.step_sizes is None else s.step_sizes[some],
            first_chain=s.first_chain + first,
            first_uniform=s.first_uniform + first,
        )
        parts.append(run(x[some], at))
    position, *each = zip(*parts, strict=True)
    return MLPHMCChain(torch.cat(position, 1), *map(torch.cat, each))


def _run(
    mlp: MLP, num_steps: int, thin: int, num_leapfrog: int, x: Tensor, s: _Settings
) -> MLPHMCChain:
    """The chain in one call of the kernel."""
    return MLPHMCChain(*_chain(x, *mlp, num_steps, thin, num_leapfrog, *s))


def _run_in_parts(
    mlp: MLP, num_steps: int, thin: int, num_leapfrog: int, x: Tensor, s: _Settings, *, limit: int
) -> MLPHMCChain:
    """The chain in several calls of the kernel."""
    energy = x.new_empty(x.shape[0], dtype=accumulation_dtype(x))
    sums = x.new_zeros(3, x.shape[0], dtype=torch.float64)

    def run(states: Tensor, first: int, count: int, every: int) -> Tensor:
        at = s._replace(key=key_after(s.key, first))
        part = MLPHMCChain(*_chain(states, *mlp, count, every, num_leapfrog, *at))
        energy.copy_(part.energy)
        sums.add_(torch.stack([count * part.acceptance_rate.double(), *part[3:]]))
        return part.position

    trajectory = run_in_parts(x, num_steps, thin, limit, run)
    sums[0] /= num_steps
    return MLPHMCChain(trajectory, energy, *sums.to(energy.dtype).unbind(0))


def _inverse_masses(op: str, value: float | Tensor, x: Tensor) -> tuple[Tensor | None, float]:
    """A diagonal [D] in the accumulation dtype, or a number."""
    if isinstance(value, Tensor) and value.dim() > 0:
        if value.is_complex():
            raise TypeError(f"{op}: inverse_mass is {value.dtype}, expected real numbers")
        if value.shape != x.shape[1:] or value.device != x.device:
            raise ValueError(
                f"{op}: inverse_mass has shape {list(value.shape)} on {value.device}, expected a "
                f"number or [{x.shape[1]}] on {x.device}"
            )
        if value.device.type == "cpu" and not bool(((value > 0) & value.isfinite()).all()):
            raise ValueError(f"{op}: inverse_mass must be positive and finite")
        return value.detach().to(accumulation_dtype(x)).contiguous(), 1.0
    mass = number(op, "inverse_mass", value)
    if mass == 0.0:
        raise ValueError(f"{op}: inverse_mass must be positive, got 0.0")
    return None, mass


def _reference(
    x: Tensor, mlp: MLP, num_steps: int, thin: int, num_leapfrog: int, s: _Settings
) -> MLPHMCChain:
    """The chain in PyTorch, one transition after the other."""
    accumulate, chains = accumulation_dtype(x), x.shape[0]
    inverse_mass: Any = s.inverse_mass if s.inverse_masses is None else s.inverse_masses
    step_size: Any = s.step_size if s.step_sizes is None else s.step_sizes[:, None]
    sum_of_rates, num_accepted, num_divergent = x.new_zeros(3, chains, dtype=accumulate).unbind(0)
    kept = []
    keys = split_key(s.key, num_steps)
    with torch.no_grad():
        states = x.to(accumulate)
        energies, grads = energy_gradient(states, mlp, s.prior_precision)
        for k, key in enumerate(keys):
            noise = reference_normal(x.shape, key, s.first_chain * x.shape[1], accumulate)
            momentum = noise / (inverse_mass**0.5)
            kinetic = 0.5 * (inverse_mass * momentum.square()).sum(1)
            proposal, slope = states, grads
            for _ in range(num_leapfrog):
                momentum = momentum - 0.5 * step_size * slope
                proposal = proposal + step_size * inverse_mass * momentum
                value, slope = energy_gradient(proposal, mlp, s.prior_precision)
                momentum = momentum - 0.5 * step_size * slope
            words = philox_words((chains,), key, first_element=s.first_uniform)
            uniform = (words.double() + 0.5) / 2**32
            end = 0.5 * (inverse_mass * momentum.square()).sum(1)
            error = (value.double() - energies.double()) + (end.double() - kinetic.double())
            is_finite = value.isfinite() & end.isfinite() & ~error.isnan()
            rate = torch.exp(-error).clamp(max=1.0).where(is_finite, 0.0)
            is_accepted = uniform < rate
            states = torch.where(is_accepted[:, None], proposal, states)
            grads = torch.where(is_accepted[:, None], slope, grads)
            energies = torch.where(is_accepted, value, energies)
            sum_of_rates = sum_of_rates + rate.to(accumulate)
            num_accepted = num_accepted + is_accepted
            num_divergent = num_divergent + (~is_finite | (error > s.max_energy_error))
            if (k + 1) % thin == 0:
                kept.append(states)
    return MLPHMCChain(
        torch.stack(kept).to(x.dtype), energies, sum_of_rates / num_steps, num_accepted,
        num_divergent,
    )  # fmt: skip


@torch.library.register_fake("gencore::mlp_hmc_chain")
def _(
    x: Tensor, parameters: Tensor, widths: list[int], kind: int, slope: float, num_steps: int,
    thin: int, *_: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    each = [parameters.new_empty(x.shape[:1]) for _ in range(4)]
    return (x.new_empty([num_steps // thin, *x.shape]), *each)
