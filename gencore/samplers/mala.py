"""Metropolis-adjusted Langevin transitions."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops.leapfrog import leapfrog_end, leapfrog_start, metropolis_accept_
from gencore.samplers.energy import Energy, energy_and_grad

__all__ = ["MALA", "MALAInfo", "MALAState"]


class MALAState(NamedTuple):
    position: Tensor
    energy: Tensor
    grad: Tensor


class MALAInfo(NamedTuple):
    is_accepted: Tensor
    acceptance_rate: Tensor
    is_divergent: Tensor
    energy: Tensor


@dataclass(frozen=True)
class MALA:
    """One leapfrog step of length √(2·step_size) and a Metropolis decision."""

    energy: Energy
    step_size: float

    def init(self, x: Tensor) -> MALAState:
        return MALAState(x.detach().clone(), *energy_and_grad(self.energy, x))

    @torch.no_grad()
    def step(
        self, state: MALAState, *, key: Tensor, first_element: int = 0
    ) -> tuple[MALAState, MALAInfo]:
        x, energy, grad = state
        size = math.sqrt(2 * self.step_size)
        start = leapfrog_start(x, grad, size, key=key, first_element=first_element)
        proposal_energy, proposal_grad = energy_and_grad(self.energy, start.position)
        end = leapfrog_end(start.momentum, proposal_grad, size)
        row = math.prod(x.shape[1:])
        result = metropolis_accept_(
            x.clone(), grad.clone(), energy.clone(), start.position, proposal_grad, proposal_energy,
            start.kinetic, end.kinetic, key=key, first_chain=2**61 + first_element // row,
        )  # fmt: skip
        info = MALAInfo(
            result.is_accepted, result.acceptance_rate, result.is_divergent, result.energy
        )
        return MALAState(result.position, result.energy, result.grad), info
