"""Potentials of entropic transport, by overrelaxed Sinkhorn steps in the domain of logarithms."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.objectives.transport.clouds import (
    check_clouds,
    check_exponent,
    cloud_weights,
)
from gencore.ops import CostExponent, soft_minimum
from gencore.ops._support.checks import accumulation_dtype, check_count, number

__all__ = [
    "ConvergenceWarning",
    "EntropicTransport",
    "SinkhornPotentials",
    "entropic_transport",
    "sinkhorn_potentials",
]


class ConvergenceWarning(UserWarning):
    """Sinkhorn steps ended before the marginals of the plan were those that were asked for."""


class SinkhornPotentials(NamedTuple):
    """The two potentials of a plan: see `sinkhorn_potentials`."""

    f: Tensor
    """Of the points x, [N] or [B, N]."""
    g: Tensor
    """Of the points y, [M] or [B, M]."""
    marginal_error: Tensor
    """Sum of the absolute errors of both marginals before the last step, [] or [B]."""
    num_iterations: int
    """How many pairs of steps were made at the ε that was asked for."""


@dataclass(frozen=True)
class EntropicTransport:
    """A problem of transport between batches of clouds, and how it is to be solved."""

    owner: str
    x: Tensor
    """[B, N, D]."""
    y: Tensor
    """[B, M, D]."""
    x_weights: Tensor
    """a, [B, N]."""
    y_weights: Tensor
    """b, [B, M]."""
    epsilon: float
    p: CostExponent
    largest_cost: float
    """A bound of the costs."""
    annealing: float
    tolerance: float | None
    max_iterations: int

    def x_potential(self, g: Tensor) -> Tensor:
        """The best f for a given g: −ε log Σ_j b_j exp((g_j − ‖x_i − y_j‖^p)/ε)."""
        return self._soft_minimum(self.x, self.y, self.y_weights, g)

    def y_potential(self, f: Tensor) -> Tensor:
        """The best g for a given f."""
        return self._soft_minimum(self.y, self.x, self.x_weights, f)

    def dual(self, f: Tensor, g: Tensor) -> Tensor:
        """Σ a f + Σ b g, [B]: the dual objective where one potential is the best for the other."""
        return (self.x_weights * f).sum(1) + (self.y_weights * g).sum(1)

    def within(self, points: Tensor, weights: Tensor) -> "EntropicTransport":
        """The problem of transport from a cloud to itself."""
        return replace(self, x=points, y=points, x_weights=weights, y_weights=weights)

    def _soft_minimum(self, x: Tensor, y: Tensor, weights: Tensor, potential: Tensor) -> Tensor:
        return soft_minimum(
            x, y, weights.log() + potential / self.epsilon, epsilon=self.epsilon, p=self.p
        )  # fmt: skip


class _State(NamedTuple):
    """Potentials, and the best one for each other."""

    f: Tensor
    g: Tensor
    best_f: Tensor
    best_g: Tensor

    def marginal_error(self, problem: EntropicTransport) -> Tensor:
        """[B]. The rows of the plan sum to a exp((f − best f)/ε)."""

        def error(weights: Tensor, potential: Tensor, best: Tensor) -> Tensor:
            errors = ((potential - best) / problem.epsilon).expm1().abs()
            # Where there is no mass the potential may be any.
            return (weights * errors.where(weights > 0, 0.0)).sum(1)

        return error(problem.x_weights, self.f, self.best_f) + error(
            problem.y_weights, self.g, self.best_g
        )

    def solution(self, problem: EntropicTransport, num_iterations: int) -> SinkhornPotentials:
        """The means of both: their dual value is that of two plans with one exact marginal each."""
        return SinkhornPotentials(
            (self.f + self.best_f) / 2,
            (self.g + self.best_g) / 2,
            self.marginal_error(problem),
            num_iterations,
        )


def sinkhorn_potentials(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    p: CostExponent = 2,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    annealing: float = 0.5,
    tolerance: float | None = 1e-3,
    max_iterations: int = 1000,
) -> SinkhornPotentials:
    r"""The potentials of entropic transport between two weighted point clouds.

    .. math:: \max_{f, g} \sum_i a_i f_i + \sum_j b_j g_j - \varepsilon \sum_{ij} a_i b_j
              \Big[ \exp \frac{f_i + g_j - \lVert x_i - y_j \rVert^p}{\varepsilon} - 1 \Big]

    f and g are in turn moved to the best one for the other, and beyond it by a factor ω that is
    estimated from how fast the marginals come near (successive overrelaxation). A step that would
    lower the objective is made with ω = 1. The potentials start from those of larger ε, down from
    the diameter of the clouds.

    The plan is P_ij = a_i b_j exp((f_i + g_j − ‖x_i − y_j‖^p)/ε). Arguments and errors are those of
    :func:`gencore.objectives.sinkhorn_divergence`. Nothing is differentiated here.

    Source:
        Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", 2013.
        Thibault, Chizat, Dossal and Papadakis, "Overrelaxed Sinkhorn-Knopp Algorithm for
        Regularized Optimal Transport", 2021. Young, "Iterative Solution of Large Linear Systems",
        1971, chapter 6, of the best ω.

    Example:
        >>> import torch
        >>> from gencore.objectives import sinkhorn_potentials
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> f, g, error, _ = sinkhorn_potentials(x, x + 1, epsilon=0.1)
        >>> ((x - x.T - 1).square() * ((f[:, None] + g - (x - x.T - 1) ** 2) / 0.1).exp()).sum() / 4
        tensor(1.0000)
    """
    problem = entropic_transport(
        "sinkhorn_potentials", x, y, x_weights, y_weights, epsilon=epsilon, p=p,
        annealing=annealing, tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip
    with torch.no_grad():
        solution = solve_between(problem)
    if x.dim() == 3:
        return solution
    f, g, error, num_iterations = solution
    return SinkhornPotentials(f[0], g[0], error[0], num_iterations)


def entropic_transport(
    owner: str,
    x: Tensor,
    y: Tensor,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    *,
    epsilon: float,
    p: CostExponent,
    annealing: float,
    tolerance: float | None,
    max_iterations: int,
) -> EntropicTransport:
    """The problem that the arguments of a public function describe, or an error in its name."""
    check_clouds(owner, x, y, batched=True)
    check_exponent(owner, p)
    if number(owner, "epsilon", epsilon) == 0:
        raise ValueError(f"{owner}: epsilon is 0; expected a positive number")
    if not 0 < annealing < 1:
        raise ValueError(f"{owner}: annealing is {annealing}; expected a ratio between 0 and 1")
    if tolerance is not None:
        number(owner, "tolerance", tolerance)
    check_count(owner, "max_iterations", max_iterations, least=1)
    a = cloud_weights(owner, "x_weights", x_weights, x)
    b = cloud_weights(owner, "y_weights", y_weights, y)
    x, y = (points.to(accumulation_dtype(points)) for points in (x, y))
    if x.dim() == 2:
        x, y, a, b = (tensor[None] for tensor in (x, y, a, b))
    both = torch.cat([x, y], 1).detach()
    largest_cost = (both.amax(1) - both.amin(1)).square().sum(1).max().item() ** (p / 2)
    # Exponents are costs in units of ε.
    if not max(largest_cost, 1.0) / epsilon <= torch.finfo(x.dtype).max / 2:
        raise ValueError(
            f"{owner}: epsilon is {epsilon:g}, and costs are up to {largest_cost:g}; expected a "
            f"ratio that {x.dtype} holds"
        )
    return EntropicTransport(
        owner, x, y, a, b, epsilon, p, largest_cost, annealing, tolerance, max_iterations
    )


def solve_within(problem: EntropicTransport) -> tuple[Tensor, SinkhornPotentials]:
    """Of a cloud and itself: the potential h before and after the last step h ← (h + best h)/2.

    These steps halve the error, whatever ε is.
    """
    h = torch.zeros_like(problem.x_weights)
    # The error of a self-transport must not count beside that of the transport.
    tolerance = None if problem.tolerance is None else problem.tolerance / 10
    for iteration in range(problem.max_iterations):
        best = problem.x_potential(h)
        state = _State(h, h, best, best)
        if tolerance is not None and _is_within(tolerance, state.marginal_error(problem)):
            break
        if iteration + 1 < problem.max_iterations:
            h = (h + best) / 2
    return h, _reported(problem, state.solution(problem, iteration))


def solve_between(
    problem: EntropicTransport, within: tuple[Tensor, Tensor] | None = None
) -> SinkhornPotentials:
    """The potentials of two clouds.

    Args:
        problem: to be solved.
        within: the potentials of the self-transports of x and of y, if they are known. There the
            dual objective is the mean of those of the self-transports or more, and steps never
            lower it: so no divergence is negative. Of two equal clouds they are the solution.
    """
    start = None
    if within is not None:
        f, g = within
        start = _State(f, g, problem.x_potential(g), problem.y_potential(f))
        if problem.tolerance is not None and _is_within(
            problem.tolerance, start.marginal_error(problem)
        ):
            return start.solution(problem, 0)
    state = _annealed(problem)
    if start is not None:
        better = problem.dual(start.best_f, start.g) > problem.dual(state.best_f, state.g)
        state = _State(
            *(torch.where(better[:, None], *pair) for pair in zip(start, state, strict=True))
        )
    relaxation = _Relaxation(problem)
    for iteration in range(problem.max_iterations):
        error = state.marginal_error(problem)
        if problem.tolerance is not None and _is_within(problem.tolerance, error):
            return state.solution(problem, iteration)
        relaxation.observe(error)
        f = relaxation.step(state.f, state.best_f, problem.x_weights)
        best_g = problem.y_potential(f)
        g = relaxation.step(state.g, best_g, problem.y_weights)
        state = _State(f, g, problem.x_potential(g), best_g)
    return _reported(problem, state.solution(problem, problem.max_iterations))


def _annealed(problem: EntropicTransport) -> _State:
    """One pair of steps at each ε from the largest cost down."""
    ratio = max(problem.largest_cost / problem.epsilon, 1.0)
    num_levels = math.ceil(math.log(ratio) / -math.log(problem.annealing))
    g = torch.zeros_like(problem.y_weights)
    for level in range(num_levels, -1, -1):
        step = replace(problem, epsilon=problem.epsilon / problem.annealing**level)
        f = step.x_potential(g)
        g = step.y_potential(f)
    return _State(f, g, problem.x_potential(g), g)


class _Relaxation:
    """Steps towards the best potential and, by a factor ω in [1, 2), beyond it."""

    # ω is estimated anew from the last three of every eight errors; beyond the bound, rounding
    # decides whether the steps converge.
    _PERIOD, _LAST, _BOUND = 8, 3, 1.95

    def __init__(self, problem: EntropicTransport) -> None:
        self.epsilon = problem.epsilon
        self.factor = torch.ones_like(problem.x_weights[:, :1])
        self.rose = torch.ones_like(self.factor, dtype=torch.bool)
        self.errors: list[Tensor] = []

    def observe(self, error: Tensor) -> None:
        """Take note of the marginal error, [B], before a pair of steps."""
        self.errors.append(error[:, None])
        if len(self.errors) < self._PERIOD:
            return
        # Near the solution ω steps shrink the error by r with (r + ω − 1)² = r ω² ρ, where plain
        # steps shrink it by ρ; the best ω is 2/(1 + √(1 − ρ)).
        rate = (self.errors[-1] / self.errors[-1 - self._LAST]) ** (1 / self._LAST)
        plain = (rate + self.factor - 1) ** 2 / (rate * self.factor**2)
        best = 2 / (1 + (1 - plain).clamp(min=0).sqrt())
        known = self.rose & (rate > self.factor - 1) & (rate < 1)
        best = torch.maximum(best.clamp(max=self._BOUND), self.factor)
        self.factor = torch.where(known, best, self.factor)
        self.errors.clear()
        self.rose = torch.ones_like(self.rose)

    def step(self, old: Tensor, best: Tensor, weights: Tensor) -> Tensor:
        """A potential beyond the best one where that raises the objective, or else the best."""
        gap = (old - best) / self.epsilon
        moved = (1 - self.factor) * gap
        gains = (moved - moved.exp()) - (gap - gap.exp())
        rises = (weights * gains).sum(1, keepdim=True) >= 0
        self.factor = torch.where(rises, self.factor, 1 + 0.9 * (self.factor - 1))
        self.rose = self.rose & rises
        return best + self.epsilon * torch.where(rises, moved, 0.0)


def _is_within(tolerance: float, error: Tensor) -> bool:
    return bool((error <= tolerance).all())


def _reported(problem: EntropicTransport, solution: SinkhornPotentials) -> SinkhornPotentials:
    """The solution, after a warning where its error is larger than asked for."""
    tolerance = problem.tolerance
    if tolerance is not None and not _is_within(tolerance, solution.marginal_error):
        warnings.warn(
            f"{problem.owner}: the marginals of the plan are off by "
            f"{solution.marginal_error.max().item():.2g} after {problem.max_iterations} "
            f"iterations; expected {tolerance:g}. Raise epsilon, max_iterations or tolerance",
            ConvergenceWarning,
            stacklevel=4,
        )
    return solution
