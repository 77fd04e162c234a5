"""Sums over the processes of a run, for layers that see the data of all of them as one batch."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["num_processes", "sum_over_processes"]


def num_processes() -> int:
    """The processes of torch's default group; 1 where there is none.

    Example:
        >>> num_processes()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(x: Tensor) -> Tensor:
    r"""Σ_r x_r, the same tensor on all ranks r, which all have to call this.

    The gradient in x_r is the sum of what the ranks' losses have in the total. So the mean of the
    ranks' gradients, which data-parallel training takes, is that of the mean of their losses.

    Example:
        >>> sum_over_processes(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if num_processes() == 1:
        return x
    total: Tensor = _Sum.apply(x)
    return total


class _Sum(torch.autograd.Function):
    """It is its own adjoint, and so has derivatives of every order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(grad)
        return total
