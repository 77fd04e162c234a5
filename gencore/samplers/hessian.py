"""Products with the Hessian of an energy, and its trace, from the graph of its gradient."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gencore.ops import philox_words

__all__ = ["hessian", "hessian_trace", "hessian_vector_product", "rademacher"]

# Directions are differentiated together while directions × rows stay below this: a few rows leave
# the machine idle otherwise, and many rows fill it (and its memory) with one direction.
_ROWS_AT_ONCE = 4096
_WORTH_BATCHING = 4


def hessian_vector_product(
    grad: Tensor, x: Tensor, vector: Tensor, *, create_graph: bool = False
) -> Tensor:
    """∇²E(xₙ) vₙ for each row.

    Args:
        grad: ∇E(x) [N, ...] with its graph, from `energy_and_grad(..., create_graph=True)`.
        x: the positions [N, ...] that the graph leads to.
        vector: v [N, ...].
        create_graph: whether the product is differentiable.

    Returns:
        [N, ...].

    Example:
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> (grad,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
        >>> hessian_vector_product(grad, x, torch.tensor([[1.0, 2.0]]))
        tensor([[12., 24.]])
    """
    return _products(grad, x, vector, create_graph, batched=False)


def hessian(grad: Tensor, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """The Hessians ∇²E(xₙ), [N, D, D] for rows of D elements, by D products with unit vectors.

    Args:
        grad: ∇E(x) [N, ...] with its graph.
        x: positions [N, ...] that the graph leads to.
        create_graph: whether the result is differentiable.

    Example:
        >>> x = torch.tensor([[2.0, 3.0]], requires_grad=True)
        >>> (grad,) = torch.autograd.grad(x.prod(), x, create_graph=True)
        >>> hessian(grad, x)
        tensor([[[0., 1.],
                 [1., 0.]]])
    """
    dim = x.shape[1:].numel()
    rows = [row.flatten(2) for _, row in _hessian_rows(grad, x, create_graph)]
    return torch.cat(rows).transpose(0, 1) if rows else x.new_zeros(x.shape[0], dim, dim)


def hessian_trace(
    grad: Tensor, x: Tensor, *, noise: Tensor | None = None, create_graph: bool = False
) -> Tensor:
    """tr ∇²E(xₙ), [N]: exactly, or Hutchinson's unbiased estimate vᵀ∇²E(xₙ)v from one `noise` v.

    Args:
        grad: ∇E(x) [N, ...] with its graph.
        x: positions [N, ...] that the graph leads to.
        create_graph: whether the result is differentiable.
        noise: v [N, ...] with E[vvᵀ] = I, from `rademacher`; without it the trace is exact, at the
            price of one product for each element of a row.

    References:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989.
    """
    if noise is None:
        trace = x.new_zeros(x.shape[0])
        for first, rows in _hessian_rows(grad, x, create_graph):
            trace = trace + rows.flatten(2).diagonal(first, dim1=0, dim2=2).sum(1)
        return trace
    product = hessian_vector_product(grad, x, noise, create_graph=create_graph)
    return (noise * product).flatten(1).sum(1)


def rademacher(x: Tensor, key: Tensor, first_element: int = 0) -> Tensor:
    """Independent signs ±1 like `x`, from the lowest bits of a Philox stream.

    Example:
        >>> sorted(set(rademacher(torch.zeros(50), torch.tensor([0, 0])).tolist()))
        [-1.0, 1.0]
    """
    bits = philox_words(x.shape, key, first_element=first_element) & 1
    return (2 * bits - 1).to(x.dtype)


def _hessian_rows(grad: Tensor, x: Tensor, create_graph: bool) -> Iterator[tuple[int, Tensor]]:
    """A few rows [S, N, ...] of the Hessians at a time, with the number of the first."""
    num, dim = x.shape[0], x.shape[1:].numel()
    if num == 0:
        return
    size = min(dim, _ROWS_AT_ONCE // num)
    size = size if size >= _WORTH_BATCHING else 1
    unit = torch.eye(dim, dtype=x.dtype, device=x.device)
    for first in range(0, dim, size):
        vectors = unit[first : first + size, None].expand(-1, num, -1).reshape(-1, *x.shape)
        if len(vectors) == 1:
            yield first, _products(grad, x, vectors[0], create_graph, batched=False)[None]
        else:
            yield first, _products(grad, x, vectors, create_graph, batched=True)


def _products(
    grad: Tensor, x: Tensor, vectors: Tensor, create_graph: bool, *, batched: bool
) -> Tensor:
    if not grad.requires_grad:  # a linear energy
        return torch.zeros_like(vectors)
    (products,) = torch.autograd.grad(
        grad,
        x,
        vectors,
        retain_graph=True,
        create_graph=create_graph,
        is_grads_batched=batched,
        materialize_grads=True,
    )
    return products
