"""Means of numbers that are known by their logarithms."""

import math

from torch import Tensor

__all__ = ["log_mean_exp"]


def log_mean_exp(x: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(x) along a dimension.

    Of importance weights it is the importance-weighted bound.

    Example:
        >>> import torch
        >>> log_mean_exp(torch.tensor([1.0, 3.0]).log())
        tensor(0.6931)
    """
    return x.logsumexp(dim) - math.log(x.shape[dim])
