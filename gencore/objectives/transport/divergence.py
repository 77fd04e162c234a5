"""The Sinkhorn divergence of two weighted point clouds (Feydy et al. 2019)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gencore.objectives.transport.potentials import (
    EntropicTransport,
    SinkhornPotentials,
    entropic_transport,
    solve_between,
    solve_within,
)
from gencore.ops import CostExponent, soft_minimum
from gencore.ops._support.autograd import gradients

__all__ = ["sinkhorn_divergence"]


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    p: CostExponent = 2,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    debias: bool = True,
    annealing: float = 0.5,
    tolerance: float | None = 1e-3,
    max_iterations: int = 1000,
) -> Tensor:
    r"""Entropic transport between two clouds, less the mean of that of each with itself.

    .. math::

        OT_\varepsilon(x, y) &= \min_P \sum_{ij} P_{ij} \lVert x_i - y_j \rVert^p
            + \varepsilon \sum_{ij} P_{ij} \log \frac{P_{ij}}{a_i b_j} , \qquad
            \textstyle\sum_j P_{ij} = a_i ,\ \sum_i P_{ij} = b_j \\
        S_\varepsilon(x, y) &= OT_\varepsilon(x, y) - \tfrac12 OT_\varepsilon(x, x)
            - \tfrac12 OT_\varepsilon(y, y)

    S is never negative, and 0 for equal clouds alone, with gradient 0. It goes to
    W_p^p as ε → 0, and as ε → ∞ to the squared maximum mean discrepancy of the kernel
    −‖x − y‖^p/2: half of the energy distance for p = 1, the squared distance of the means for
    p = 2. The cost has no factor 1/p: geomloss's ``SamplesLoss(p=2, blur=s)`` is half of this with
    ε = 2s², and ``SamplesLoss(p=1, blur=s)`` this with ε = s.

    No matrix of all pairs is held, forward or backward: memory grows with N + M. Gradients by
    points and weights are those at the last potentials (the envelope theorem): exact to first
    order in the error of the marginals. A second derivative raises a NotImplementedError. By
    weights they hold up to a constant, which weights that sum to one do not feel.

    Args:
        x: [N, D], or [B, N, D].
        y: [M, D], or [B, M, D], of the same dtype.
        epsilon: ε > 0, in units of the cost: about the p-th power of the length below which points
            are not told apart. Fewer steps are needed where it is larger; a hundredth of the mean
            cost is a common choice.
        p: 1 or 2.
        x_weights: a, not negative and with sum 1, [N] or [B, N]; 1/N if None.
        y_weights: b; 1/M if None.
        debias: if False, OT_ε alone.
        annealing: ratio of one ε to the one before it, on the way from the diameter's to ε.
        tolerance: of the marginals of the plan, the sum of absolute errors; if None, exactly
            `max_iterations` pairs of steps are made.
        max_iterations: most pairs of steps at ε.

    Returns:
        A scalar, or [B], in float32 or float64.

    Warns:
        ConvergenceWarning: the tolerance was not reached. The value is still a lower bound of OT_ε.

    Raises:
        ValueError: for shapes, weights or options other than the above.
        TypeError: for two dtypes, or one that is not floating.

    Source:
        Feydy, Séjourné, Vialard, Amari, Trouvé and Peyré, "Interpolating between Optimal Transport
        and MMD using Sinkhorn Divergences", 2019, (1)–(3), theorem 1. Bruna, "Inference and
        Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.objectives import sinkhorn_divergence
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> sinkhorn_divergence(x, x + 0.5, epsilon=0.1)          # ‖(.5, .5)‖²
        tensor(0.5000)
    """
    problem = entropic_transport(
        "sinkhorn_divergence", x, y, x_weights, y_weights, epsilon=epsilon, p=p,
        annealing=annealing, tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip
    if debias:
        of_x = problem.within(problem.x, problem.x_weights)
        of_y = problem.within(problem.y, problem.y_weights)
        with torch.no_grad():
            (start_x, within_x), (start_y, within_y) = solve_within(of_x), solve_within(of_y)
            between = solve_between(problem, (start_x, start_y))
        biases = _cost(of_x, within_x) + _cost(of_y, within_y)
        divergence = _cost(problem, between) - biases / 2
    else:
        with torch.no_grad():
            between = solve_between(problem)
        divergence = _cost(problem, between)
    return divergence if x.dim() == 3 else divergence[0]


def _cost(problem: EntropicTransport, solution: SinkhornPotentials) -> Tensor:
    """OT_ε at its potentials, [B]."""
    cost: Tensor = _DualCost.apply(
        problem.x, problem.y, problem.x_weights, problem.y_weights, solution, problem
    )
    return cost


class _DualCost(torch.autograd.Function):
    """The dual objective, differentiated with its potentials held: that is all there is at the
    maximum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        x_weights: Tensor,
        y_weights: Tensor,
        solution: SinkhornPotentials,
        problem: EntropicTransport,
    ) -> Tensor:
        ctx.save_for_backward(x, y, x_weights, y_weights, solution.f, solution.g)
        ctx.options = {"epsilon": problem.epsilon, "p": problem.p}
        return problem.dual(solution.f, solution.g)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _DualGradient.apply(grad, *ctx.saved_tensors, ctx.options, ctx.needs_input_grad)
        return (*gradients, None, None)


class _DualGradient(torch.autograd.Function):
    """The gradients of `_DualCost`, whose own derivative would be that of the potentials."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        x: Tensor,
        y: Tensor,
        x_weights: Tensor,
        y_weights: Tensor,
        f: Tensor,
        g: Tensor,
        options: dict[str, Any],
        needed: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        pairs = zip((x, y), needed[:2], strict=True)
        ends = [points.detach().requires_grad_(need) for points, need in pairs]
        by_points: list[Tensor | None] = [None, None]
        if needed[0] or needed[1]:
            # The slope of the best f for g is that of the mean cost of a row of its plan. Rows of
            # the plan of f and g are multiples of those.
            epsilon = options["epsilon"]
            with torch.enable_grad():
                best = soft_minimum(ends[0], ends[1], y_weights.log() + g / epsilon, **options)
            rows = grad[:, None] * (x_weights.log() + (f - best.detach()) / epsilon).exp()
            wanted = [points if points.requires_grad else None for points in ends]
            by_points = gradients([best], wanted, [rows], create_graph=False)
        return *by_points, grad[:, None] * f, grad[:, None] * g

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError("sinkhorn_divergence: it has no second derivative")
