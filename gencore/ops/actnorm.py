"""The per-channel affine map of Glow."""

import torch
from torch import Tensor

from gencore.ops.checks import accumulation_dtype

__all__ = ["actnorm"]


def actnorm(
    x: Tensor, log_scale: Tensor, bias: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """y[:, c] = exp(log_scale[c])·x[:, c] + bias[c] of x [N, C, ...] and log_det = P·Σ log_scale, P
    positions a channel, [N]; ``inverse``: x = (y − bias)·exp(−log_scale)."""
    dtype = accumulation_dtype(x)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale, shift = log_scale.to(dtype).view(shape), bias.to(dtype).view(shape)
    h = x.to(dtype)
    y = (h - shift) * torch.exp(-scale) if inverse else h * torch.exp(scale) + shift
    positions = x[0, 0].numel() if x.dim() > 2 else 1
    log_det = (positions * log_scale.to(dtype).sum()).expand(x.shape[0])
    return y.to(x.dtype), -log_det if inverse else log_det
