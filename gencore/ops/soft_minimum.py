"""The soft minimum of costs between two point clouds: a step of Sinkhorn's algorithm."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.autograd import differentiable, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_accumulated,
    check_like,
    check_state,
    number,
)

__all__ = ["CostExponent", "soft_minimum"]

CostExponent = Literal[1, 2]
"""p of a cost, the p-th power of a distance."""

_ops = torch.ops.gencore


def soft_minimum(
    x: Tensor, y: Tensor, log_weights: Tensor, *, epsilon: float, p: CostExponent = 2
) -> Tensor:
    r"""The soft minimum over the points y of costs ‖x − y‖^p, for each point x.

    .. math:: m_i = -\varepsilon \log \sum_j \exp(v_j - \lVert x_i - y_j \rVert^p / \varepsilon)

    It goes to the smallest cost minus ε v as ε → 0. With v = log b + g/ε it is the best potential f
    for g in entropic transport (:func:`gencore.objectives.sinkhorn_potentials`); with v = 0 and
    ε = 2h², exp(−m/ε) is a sum of Gaussian kernels.

    No array of all pairs is held, forward or backward: memory grows with N + M. Distances are made
    of differences, so that points near one another are told apart wherever they are.
    Differentiable in all tensors, to any order; from the second derivative on by the reference,
    with arrays of N M D numbers. For p = 1 the slope at a distance of 0 is 0. Results are the same
    bit for bit for any number of threads.

    Args:
        x: points [N, D] or [B, N, D], float64, float32, bfloat16 or float16. Half types are
            computed in float32.
        y: points [M, D] or [B, M, D], of the same dtype.
        log_weights: v [M] or [B, M], of that dtype or the result's; minus infinity leaves a point
            out.
        epsilon: ε > 0, in units of the cost.
        p: 1 or 2.

    Returns:
        m [N] or [B, N], in float32, or float64 for float64; infinite where no point has a weight.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Feydy, Séjourné, Vialard, Amari, Trouvé and Peyré, "Interpolating between Optimal Transport
        and MMD using Sinkhorn Divergences", 2019, (8). Milakov and Gimelshein, "Online normalizer
        calculation for softmax", 2018.

    Example:
        >>> import torch
        >>> from gencore.ops import soft_minimum
        >>> x, y = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [5.0]])
        >>> soft_minimum(x, y, torch.zeros(2), epsilon=0.01)
        tensor([1.0000, 3.9931])
    """
    op = "soft_minimum"
    _check(op, x, y, log_weights)
    check_choice(op, "p", p, get_args(CostExponent))
    epsilon = number(op, "epsilon", epsilon)
    if epsilon == 0:
        raise ValueError(f"{op}: epsilon is 0; expected a positive number")
    is_batch = x.dim() == 3
    x, y, log_weights = (
        (t if is_batch else t[None]).to(accumulation_dtype(x)) for t in (x, y, log_weights)
    )
    function = _reference if state.reference else _soft_minimum
    minimum: Tensor = function(x, y, log_weights, epsilon, int(p))
    return minimum if is_batch else minimum[0]


def _check(op: str, x: Tensor, y: Tensor, log_weights: Tensor) -> None:
    check_state(op, x)
    check_state(op, y, "y")
    check_state(op, log_weights, "log_weights")
    if y.dtype != x.dtype or y.device != x.device:
        check_like(op, x, y, "y")
    if (
        x.dim() not in (2, 3)
        or (y.dim() != x.dim() or y.shape[-1] != x.shape[-1])
        or y.shape[:-2] != x.shape[:-2]
    ):
        raise ValueError(
            f"{op}: x and y have shapes {list(x.shape)} and {list(y.shape)}; expected [N, D] and "
            "[M, D], or [B, N, D] and [B, M, D]"
        )
    if log_weights.shape != y.shape[:-1]:
        raise ValueError(
            f"{op}: log_weights has shape {list(log_weights.shape)}; expected "
            f"{list(y.shape[:-1])}, an entry a point of y"
        )
    check_accumulated(op, x, log_weights, "log_weights")


def _costs(x: Tensor, y: Tensor, power: int) -> Tensor:
    """‖x_i − y_j‖^p, [B, N, M]."""
    squared = (x[:, :, None] - y[:, None]).square().sum(3)
    if power == 2:
        return squared
    apart = squared > 0
    return squared.where(apart, 1.0).sqrt().where(apart, 0.0)  # no slope at 0


def _reference(x: Tensor, y: Tensor, log_weights: Tensor, epsilon: float, power: int) -> Tensor:
    """`soft_minimum` in pure PyTorch."""
    return -epsilon * (log_weights[:, None] - _costs(x, y, power) / epsilon).logsumexp(2)


def _reference_plan_sums(
    x: Tensor,
    y: Tensor,
    row_logs: Tensor,
    column_logs: Tensor,
    factors: Tensor | None,
    epsilon: float,
    power: int,
) -> tuple[Tensor, Tensor]:
    """Of P = c exp(u + v − C/ε): Σ_j P_ij, [B, N], and Σ_j P_ij ∂C_ij/∂x_i, [B, N, D]."""
    costs = _costs(x, y, power)
    plan = (row_logs[..., None] + (column_logs[:, None] - costs / epsilon)).exp()
    if factors is not None:
        plan = plan * factors[:, None]
    slopes = 2 * plan if power == 2 else (plan / costs.where(costs > 0, 1.0)).where(costs > 0, 0.0)
    return plan.sum(2), (slopes[..., None] * (x[:, :, None] - y[:, None])).sum(2)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.epsilon, ctx.power = inputs
    ctx.save_for_backward(*tensors, output)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """∂m_i = Σ_j π_ij ∂C_ij − ε π_ij ∂v_j, with the shares π_ij = exp(v_j − (C_ij − m_i)/ε)."""
    x, y, log_weights, minimum = ctx.saved_tensors
    needs_x, *needs = ctx.needs_input_grad[:3]
    by_x = by_y = by_weights = None
    logs, numbers = minimum / ctx.epsilon, (ctx.epsilon, ctx.power)
    if needs_x:
        by_x = grad[..., None] * _plan_sums(x, y, logs, log_weights, None, *numbers)[1]
    if any(needs):
        masses, by_y = _plan_sums(y, x, log_weights, logs, grad, *numbers)
        by_weights = -ctx.epsilon * masses
    return by_x, by_y, by_weights, None, None


def _plan_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.epsilon, ctx.power = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_plan(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    def reference(
        x: Tensor, y: Tensor, u: Tensor, v: Tensor, factors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return _reference_plan_sums(x, y, u, v, factors, ctx.epsilon, ctx.power)

    found = gradients_of_reference(reference, ctx.saved_tensors, grads)
    return *found, None, None


_soft_minimum = differentiable(_ops.soft_minimum.default, _differentiate, _setup)
_plan_sums = differentiable(_ops.plan_sums.default, _differentiate_plan, _plan_setup)


# Shapes of their results.


@torch.library.register_fake("gencore::soft_minimum")
def _(x: Tensor, y: Tensor, log_weights: Tensor, epsilon: float, power: int) -> Tensor:
    return x.new_empty(x.shape[:2])


@torch.library.register_fake("gencore::plan_sums")
def _(
    x: Tensor,
    y: Tensor,
    row_logs: Tensor,
    column_logs: Tensor,
    factors: Tensor | None,
    epsilon: float,
    power: int,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[:2]), x.new_empty(x.shape)
