"""The smooth clip that keeps log-scales finite."""

import torch
from torch import Tensor

__all__ = ["bounded"]


def bounded(x: Tensor, bound: float) -> Tensor:
    """bound·tanh(x / bound): x near 0, and within ±bound everywhere."""
    return bound * torch.tanh(x / bound)
