"""Stochastic gradient Hamiltonian Monte Carlo."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from gencore.ops import leapfrog_start, random_key, sghmc_step, sghmc_step_
from gencore.ops.random import stream_key
from gencore.samplers.energy import Energy
from gencore.samplers.stochastic_gradient import (
    StepSize,
    StochasticGradientSampler,
    StochasticGradientState,
)

__all__ = ["SGHMC"]


@dataclass(frozen=True)
class SGHMC(StochasticGradientSampler):
    """Stochastic gradient Hamiltonian Monte Carlo.

    Step t with an estimate ĝ of ∇E(x) and fresh ξ ~ N(0, I) is

        p' = p − ε_t ĝ − ε_t C m⁻¹ p + √(2Cε_t) ξ,    x' = x + ε_t m⁻¹ p'

    whose friction C keeps the noise of the gradient from heating the chains; they approach
    exp(−E(x) − p²/2m) as ε_t → 0.

    Args:
        energy: maps [N, ...] to [N], each row by itself, perhaps an unbiased estimate.
        step_size: ε_t: a number, one per chain, or a schedule such as `polynomial_decay`.
        friction: C ≥ 0, a number or one per chain.
        inverse_mass: m⁻¹ > 0, a number, one per chain, or whatever else broadcasts to positions.
        noise_scale: in place of √(2Cε), where the variance V of the gradient's noise is known:
            √(2Cε − ε²V).

    Example:
        >>> import torch
        >>> sampler = SGHMC(lambda x: 0.5 * x.square().sum(1), step_size=0.1, friction=1.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = sampler.sample(torch.zeros(4000, 2), 100, generator=generator)
        >>> round(x.var().item(), 1)
        1.0

    References:
        Chen, Fox and Guestrin, "Stochastic gradient Hamiltonian Monte Carlo", ICML 2014, eq. (15).
    """

    energy: Energy
    step_size: StepSize
    friction: float | Tensor
    _: KW_ONLY
    inverse_mass: float | Tensor = 1.0
    noise_scale: float | Tensor | None = None

    def _momentum(self, x: Tensor, key: Tensor | None, first_element: int) -> Tensor:
        """Draws of N(0, m)."""
        if key is None:
            key = random_key(device=x.device)
        rest = torch.zeros_like(x)  # without a force, what a leapfrog step starts with is kept
        return leapfrog_start(
            x, rest, 0.0, self.inverse_mass, key=stream_key(key, "momenta"),
            first_element=first_element,
        ).momentum  # fmt: skip

    def _move(
        self, state: StochasticGradientState, grad: Tensor, step_size: float | Tensor,
        in_place: bool, **draws: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if state.momentum is None:
            raise ValueError("SGHMC.step: the state has no momentum; expected one of SGHMC.init")
        move = sghmc_step_ if in_place else sghmc_step
        return move(
            state.position, state.momentum, grad, step_size, self.friction, self.inverse_mass,
            self.noise_scale, **draws,
        )  # fmt: skip
