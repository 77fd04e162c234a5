"""Stochastic gradient Langevin dynamics, and the schedule of its step sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gencore.ops import langevin_step, langevin_step_
from gencore.samplers.energy import Energy
from gencore.samplers.stochastic_gradient import (
    StepSize,
    StochasticGradientSampler,
    StochasticGradientState,
)

__all__ = ["SGLD", "polynomial_decay"]


def polynomial_decay(a: float, b: float, gamma: float) -> Callable[[int], float]:
    """The schedule ε_t = a (b + t)^−γ of step t = 0, 1, …

    With γ in (½, 1] the steps add up to infinity and their squares do not, so that SGLD converges
    without bias.

    Raises:
        ValueError: unless a > 0, b > 0 and 0 ≤ γ ≤ 1.

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics", 2011, §3.

    Example:
        >>> import torch
        >>> schedule = polynomial_decay(0.1, 1.0, 0.5)
        >>> schedule(0), schedule(3)
        (0.1, 0.05)
    """
    if not (a > 0 and b > 0 and 0 <= gamma <= 1):
        raise ValueError(
            f"polynomial_decay: got a={a}, b={b}, gamma={gamma}; expected a > 0, b > 0 and "
            "0 <= gamma <= 1"
        )
    return lambda step: float(a * (b + step) ** -gamma)


@dataclass(frozen=True)
class SGLD(StochasticGradientSampler):
    """Stochastic gradient Langevin dynamics.

    Step t with an estimate ĝ of ∇E(x) and fresh ξ ~ N(0, I) is

        x' = x − a_t ĝ + √(2a_t) ξ

    and needs no correction as a_t → 0: the noise of the gradient enters with a_t, the injected one
    with √a_t. The paper's ε_t is 2a_t.

    Args:
        energy: maps [N, ...] to [N], each row by itself, perhaps an unbiased estimate.
        step_size: a_t: a number, one per chain, or a schedule such as `polynomial_decay`.

    Example:
        >>> import torch
        >>> data = torch.tensor([0.5, 1.5, 2.5, 3.5])  # of N(θ, 1), with a flat prior
        >>> def energy(theta):  # of two observations at random, which stand for all four
        ...     batch = data[torch.randperm(4)[:2]]
        ...     return 2 * 0.5 * (theta - batch).square().sum(1)
        >>> _ = torch.manual_seed(0)
        >>> theta = SGLD(energy, 0.01).sample(torch.zeros(2000, 1), 400)
        >>> round(theta.mean().item(), 0), round(theta.std().item(), 1)  # N(2, 1/4)
        (2.0, 0.5)

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011.
    """

    energy: Energy
    step_size: StepSize

    def _move(
        self, state: StochasticGradientState, grad: Tensor, step_size: float | Tensor,
        in_place: bool, **draws: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        move = langevin_step_ if in_place else langevin_step
        return move(state.position, grad, step_size, **draws), None
