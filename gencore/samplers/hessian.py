"""Products with the Hessian of an energy, and its trace, from the graph of its gradient."""

import torch
from torch import Tensor

from gencore.nn.jacobian import jacobian_rows, jacobian_trace, vector_jacobian_product

__all__ = ["hessian", "hessian_trace", "hessian_vector_product"]


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
    return vector_jacobian_product(grad, x, vector, create_graph=create_graph)


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
    rows = [row.flatten(2) for _, row in jacobian_rows(grad, x, create_graph=create_graph)]
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
    return jacobian_trace(grad, x, noise=noise, create_graph=create_graph).trace
