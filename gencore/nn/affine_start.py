"""Where the last layer of a network of shifts and log-scales starts."""

import math

import torch
from torch import nn

__all__ = ["start_affine"]


@torch.no_grad()
def start_affine(last: nn.Linear, shifts: slice, log_scales: slice, features: int) -> None:
    """Give a layer that torch has just initialised the start of an affine flow's networks.

    Log-scales start at zero, so that a deep stack is finite. Shifts keep torch's start times
    √(2/D), and at most that: from the identity, data of independent coordinates would give a flow
    no gradient to leave by. What a random shift of each of D coordinates costs in log-likelihood
    grows with D and its square, so that the start is as good in any dimension.

    Args:
        last: the layer.
        shifts, log_scales: their rows.
        features: D.

    Example:
        >>> layer = nn.Linear(5, 4)
        >>> start_affine(layer, slice(2), slice(2, 4), features=2)
        >>> layer(torch.ones(1, 5))[0, 2:].tolist(), bool(layer.weight[:2].any())
        ([0.0, 0.0], True)
    """
    for parameter in (last.weight, last.bias):
        parameter[log_scales] = 0.0
        parameter[shifts] *= min(1.0, math.sqrt(2 / features))
