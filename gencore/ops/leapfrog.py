"""Leapfrog integration and the Metropolis decision in pure PyTorch, until the kernels land."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops.checks import accumulation_dtype
from gencore.ops.random import draw_key, philox_normal, philox_words

__all__ = [
    "LeapfrogEnd",
    "LeapfrogStart",
    "MetropolisStep",
    "leapfrog_end",
    "leapfrog_start",
    "leapfrog_step",
    "leapfrog_step_",
    "metropolis_accept",
    "metropolis_accept_",
]


class LeapfrogStart(NamedTuple):
    position: Tensor
    momentum: Tensor
    kinetic: Tensor


class LeapfrogEnd(NamedTuple):
    momentum: Tensor
    kinetic: Tensor


class MetropolisStep(NamedTuple):
    position: Tensor
    grad: Tensor
    energy: Tensor
    is_accepted: Tensor
    acceptance_rate: Tensor
    is_divergent: Tensor


def _chains(value: float | Tensor, x: Tensor) -> float | Tensor:
    if isinstance(value, Tensor) and value.dim() == 1 and value.shape[0] == x.shape[0]:
        return value.reshape(-1, *(1,) * (x.dim() - 1))
    return value


def _kinetic(momentum: Tensor, inverse_mass: float | Tensor) -> Tensor:
    scaled = momentum * momentum * inverse_mass
    return 0.5 * scaled.reshape(len(scaled), -1).to(accumulation_dtype(momentum)).sum(1)


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
    if noise is None:
        if key is None:
            key = draw_key("leapfrog_start", generator, x.device)
        noise = philox_normal(x.shape, key, first_element=first_element, dtype=x.dtype)
    step_size, inverse_mass = _chains(step_size, x), _chains(inverse_mass, x)
    momentum = noise * inverse_mass**-0.5
    kinetic = _kinetic(momentum, inverse_mass)
    momentum = momentum - 0.5 * step_size * grad
    position = x + step_size * inverse_mass * momentum
    return LeapfrogStart(position.to(x.dtype), momentum.to(x.dtype), kinetic)


def leapfrog_step(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    step_size, inverse_mass = _chains(step_size, x), _chains(inverse_mass, x)
    kicked = momentum - step_size * grad
    return (x + step_size * inverse_mass * kicked).to(x.dtype), kicked.to(x.dtype)


def leapfrog_step_(
    x: Tensor,
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    position, kicked = leapfrog_step(x, momentum, grad, step_size, inverse_mass)
    return x.copy_(position), momentum.copy_(kicked)


def leapfrog_end(
    momentum: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
) -> LeapfrogEnd:
    step_size, inverse_mass = _chains(step_size, momentum), _chains(inverse_mass, momentum)
    kicked = momentum - 0.5 * step_size * grad
    return LeapfrogEnd(kicked.to(momentum.dtype), _kinetic(kicked, inverse_mass))


def metropolis_accept(
    x: Tensor,
    grad: Tensor,
    energy: Tensor,
    proposal: Tensor,
    proposal_grad: Tensor,
    proposal_energy: Tensor,
    kinetic: Tensor,
    proposal_kinetic: Tensor,
    *,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_chain: int = 0,
    max_energy_error: float = 1000.0,
) -> MetropolisStep:
    if uniform is None:
        if key is None:
            key = draw_key("metropolis_accept", generator, x.device)
        words = philox_words((len(x),), key, first_element=first_chain)
        uniform = (words.double() + 0.5) * 2.0**-32
    error = (proposal_energy.double() + proposal_kinetic) - (energy.double() + kinetic)
    is_finite = proposal_energy.isfinite() & proposal_kinetic.isfinite()
    for tensor in (proposal, proposal_grad):
        is_finite = is_finite & tensor.reshape(len(x), -1).isfinite().all(1)
    rate = torch.where(is_finite, (-error).clamp(max=0.0).exp(), 0.0)
    is_accepted = uniform < rate
    is_divergent = ~is_finite | (error > max_energy_error)
    rows = is_accepted.reshape(-1, *(1,) * (x.dim() - 1))
    return MetropolisStep(
        torch.where(rows, proposal, x),
        torch.where(rows, proposal_grad, grad),
        torch.where(is_accepted, proposal_energy, energy),
        is_accepted,
        rate.to(accumulation_dtype(x)),
        is_divergent,
    )


def metropolis_accept_(
    x: Tensor,
    grad: Tensor,
    energy: Tensor,
    proposal: Tensor,
    proposal_grad: Tensor,
    proposal_energy: Tensor,
    kinetic: Tensor,
    proposal_kinetic: Tensor,
    *,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_chain: int = 0,
    max_energy_error: float = 1000.0,
) -> MetropolisStep:
    step = metropolis_accept(
        x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic, proposal_kinetic,
        uniform=uniform, generator=generator, key=key, first_chain=first_chain,
        max_energy_error=max_energy_error,
    )  # fmt: skip
    x.copy_(step.position)
    grad.copy_(step.grad)
    energy.copy_(step.energy)
    return step._replace(position=x, grad=grad, energy=energy)
