"""Products with the Jacobians of vector fields, their rows and traces, from a field's graph."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["JacobianTrace", "jacobian_rows", "jacobian_trace", "vector_jacobian_product"]

# Directions are differentiated together while directions × rows stay below this: a few rows leave
# the machine idle otherwise, and many rows fill it (and its memory) with one direction.
_ROWS_AT_ONCE = 4096
_WORTH_BATCHING = 4


class JacobianTrace(NamedTuple):
    """What :func:`jacobian_trace` finds for each row."""

    trace: Tensor
    """tr ∂y/∂x, [N], or Hutchinson's estimate of it."""
    squared_norm: Tensor
    """‖∂y/∂x‖², [N], the squares of all elements, or an unbiased estimate of their sum."""


def jacobian_trace(
    y: Tensor, x: Tensor, *, noise: Tensor | None = None, create_graph: bool = False
) -> JacobianTrace:
    """The traces and the squared Frobenius norms of the Jacobians ∂yₙ/∂xₙ.

    They are exact, or unbiased estimates from one `noise` v with E[vvᵀ] = I: vᵀJv and ‖vᵀJ‖².

    Args:
        y: vectors [N, ...] with their graph, each a function of its own row of x.
        x: positions [N, ...] that the graph leads to.
        noise: v [N, ...]; without it both are exact, at the price of one product for each element
            of a row.
        create_graph: whether the results are differentiable.

    References:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989; Finlay,
        Jacobsen, Nurbekyan and Oberman, "How to train your neural ODE", 2020, for the norm.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> jacobian_trace(x * x.flip(1), x)
        JacobianTrace(trace=tensor([3.]), squared_norm=tensor([10.]))
    """
    if noise is not None:
        product = vector_jacobian_product(y, x, noise, create_graph=create_graph).flatten(1)
        return JacobianTrace((noise.flatten(1) * product).sum(1), product.square().sum(1))
    trace, squared_norm = x.new_zeros(x.shape[0]), x.new_zeros(x.shape[0])
    for first, part in jacobian_rows(y, x, create_graph=create_graph):
        rows = part.flatten(2)
        trace = trace + rows.diagonal(first, dim1=0, dim2=2).sum(1)
        squared_norm = squared_norm + rows.square().sum((0, 2))
    return JacobianTrace(trace, squared_norm)


def vector_jacobian_product(
    y: Tensor, x: Tensor, vector: Tensor, *, create_graph: bool = False
) -> Tensor:
    """vₙᵀ ∂yₙ/∂xₙ for each row, [N, ...]; arguments as for `jacobian_trace`.

    Example:
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> vector_jacobian_product(x**2, x, torch.tensor([[1.0, 3.0]]))
        tensor([[2., 6.]])
    """
    return _products(y, x, vector, create_graph, batched=False)


def jacobian_rows(
    y: Tensor, x: Tensor, *, create_graph: bool = False
) -> Iterator[tuple[int, Tensor]]:
    """A few rows [S, N, ...] of the Jacobians ∂yₙ/∂xₙ at a time, with the number of the first."""
    num, dim = x.shape[0], x.shape[1:].numel()
    if num == 0:
        return
    size = min(dim, _ROWS_AT_ONCE // num)
    size = size if size >= _WORTH_BATCHING else 1
    unit = torch.eye(dim, dtype=x.dtype, device=x.device)
    for first in range(0, dim, size):
        vectors = unit[first : first + size, None].expand(-1, num, -1).reshape(-1, *x.shape)
        if len(vectors) == 1:
            yield first, _products(y, x, vectors[0], create_graph, batched=False)[None]
        else:
            yield first, _products(y, x, vectors, create_graph, batched=True)


def _products(
    y: Tensor, x: Tensor, vectors: Tensor, create_graph: bool, *, batched: bool
) -> Tensor:
    if not y.requires_grad:  # a constant
        return torch.zeros_like(vectors)
    (products,) = torch.autograd.grad(
        y,
        x,
        vectors,
        retain_graph=True,
        create_graph=create_graph,
        is_grads_batched=batched,
        materialize_grads=True,
    )
    return products
