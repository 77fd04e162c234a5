"""Roots of increasing functions, element by element, and their derivatives."""

from collections.abc import Callable

import torch
from torch import Tensor

from gencore.ops._support.backend import transforming

__all__ = ["bracketed_root", "newton_steps"]

_MAX_ITERATIONS = 100

Function = Callable[[Tensor], tuple[Tensor, Tensor]]


def bracketed_root(
    function: Function, start: Tensor, low: Tensor, high: Tensor, *, precision: float | Tensor = 0.0
) -> Tensor:
    """The roots of an increasing function by Newton's method; by bisection where its steps leave
    the bracket or do not halve, as they do where it cycles.

    Args:
        function: gives f(a) and f′(a), each element by itself.
        start: where the search begins.
        low: where f is not positive.
        high: where f is not negative.
        precision: of f's values: a root is found where |f| is not larger.

    Example:
        >>> import torch
        >>> from gencore.nn.bracketed_root import bracketed_root
        >>> one = torch.ones(1)
        >>> bracketed_root(lambda a: (a**3 - 2, 3 * a**2), one, one, 2 * one)
        tensor([1.2599])
    """
    a, step = start.clone(), high - low
    tolerance = torch.finfo(a.dtype).eps
    for _ in range(_MAX_ITERATIONS):
        residual, slope = function(a)
        low, high = torch.where(residual < 0, a, low), torch.where(residual > 0, a, high)
        newton = a - residual / slope
        is_good = (newton >= low) & (newton <= high) & ((newton - a).abs() <= 0.5 * step)
        following = torch.where(is_good, newton, 0.5 * (low + high))
        nearest = torch.minimum((newton - a).abs(), high - low)
        is_found = (residual.abs() <= precision) | (nearest <= tolerance * (1 + a.abs()))
        if not transforming() and is_found.all():  # vmap has no branches that depend on data
            break
        step = (following - a).abs()
        a = torch.where(is_found, a, following)
    return a


def newton_steps(function: Function, a: Tensor, num: int = 2) -> Tensor:
    """Steps of Newton's method from a root, which is a constant, to the same root as a function of
    all that `function` depends on.

    Its error is squared by each step, so that after two the first three derivatives are those of
    the implicit function.

    Example:
        >>> import torch
        >>> from gencore.nn.bracketed_root import newton_steps
        >>> y = torch.tensor(4.0, requires_grad=True)
        >>> newton_steps(lambda a: (a**2 - y, 2 * a), torch.tensor(2.0)).backward()
        >>> y.grad  # of √y
        tensor(0.2500)
    """
    for _ in range(num):
        residual, slope = function(a)
        a = a - residual / slope.clamp(min=torch.finfo(a.dtype).eps)
    return a
