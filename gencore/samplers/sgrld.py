"""Stochastic gradient Riemannian Langevin dynamics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gencore.ops import riemannian_langevin_step, riemannian_langevin_step_
from gencore.samplers.energy import Energy
from gencore.samplers.stochastic_gradient import (
    StepSize,
    StochasticGradientSampler,
    StochasticGradientState,
)

__all__ = ["SGRLD"]

Metric = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""`metric(x[N, ...]) -> (G, Γ)`, the diagonal and Γ_i = ∂G_ii/∂x_i, both like x; Γ None for 0."""


@dataclass(frozen=True)
class SGRLD(StochasticGradientSampler):
    """Stochastic gradient Riemannian Langevin dynamics with a diagonal metric.

    Step t with an estimate ĝ of ∇E(x) and fresh ξ ~ N(0, I) is

        x' = x − ε_t (G ∘ ĝ − Γ) + √(2ε_t G) ∘ ξ,    Γ_i = ∂G_ii/∂x_i

    Args:
        energy: maps [N, ...] to [N], each row by itself, perhaps an unbiased estimate.
        step_size: ε_t: a number, one per chain, or a schedule such as `polynomial_decay`.
        metric: maps positions to (G, Γ), each like the positions, G > 0; Γ may be None where G is
            constant. Where G is not positive the root is NaN, and the chain lost.

    Example:
        >>> import torch
        >>> def metric(x):  # steps in proportion to x
        ...     return x, torch.ones_like(x)
        >>> energy = lambda x: (x - 9 * x.log()).sum(1)  # Gamma(10, 1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.full((4000, 1), 10.0)
        >>> x = SGRLD(energy, 0.05, metric).sample(x, 100, generator=generator)
        >>> round(x.mean().item())
        10

    References:
        Patterson and Teh, "Stochastic gradient Riemannian Langevin dynamics on the probability
        simplex", NeurIPS 2013.
    """

    energy: Energy
    step_size: StepSize
    metric: Metric

    def _move(
        self, state: StochasticGradientState, grad: Tensor, step_size: float | Tensor,
        in_place: bool, **draws: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        move = riemannian_langevin_step_ if in_place else riemannian_langevin_step
        pair = self.metric(state.position)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(
                f"SGRLD: metric returned a {type(pair).__name__}; expected the pair (G, Γ), or "
                "(G, None) where G is constant"
            )
        diagonal, correction = pair
        return move(state.position, grad, diagonal, correction, step_size, **draws), None
