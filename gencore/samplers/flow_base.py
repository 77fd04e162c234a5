"""What the flows from noise share: the noise's density, their input and their failure."""

import math

import torch
from torch import Tensor

__all__ = ["FlowError", "check_flow_input", "normal_log_prob"]


class FlowError(RuntimeError):
    """The energy's flow cannot be followed: it is not finite, or too stiff for the solver."""


def normal_log_prob(x: Tensor) -> Tensor:
    """log N(xₙ; 0, I), [N]."""
    dim = x.shape[1:].numel()
    return -0.5 * (x.flatten(1).square().sum(1) + dim * math.log(2 * math.pi))


def check_flow_input(name: str, x: Tensor) -> None:
    """Raise unless x is [N, D, ...] of float32 or float64."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor of positions, got {type(x).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: positions are {x.dtype}; expected float32 or float64")
    if x.dim() < 2:
        raise ValueError(
            f"{name}: positions have shape {list(x.shape)}; expected [N, D] or [N, ...]"
        )
