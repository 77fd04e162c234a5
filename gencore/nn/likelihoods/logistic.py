"""What likelihoods made of logistic distributions share: bins, draws and expectations."""

import torch
from torch import Tensor

from gencore.ops.logistic_mixture_reference import (
    LARGEST_LOG_SCALE,
    LogisticSettings,
    bin_log_prob,
    in_levels,
)

__all__ = ["draw_bin", "expected_level", "level_probabilities"]


def level_probabilities(mean: Tensor, log_scale: Tensor, s: LogisticSettings) -> Tensor:
    """The probability of every level, [N, L, H, W], of raw means and log-scales that broadcast to
    [N, 1, H, W]. That of a bin of more levels than one is its first level's."""
    bins = torch.arange(s.bins, device=mean.device, dtype=mean.dtype).view(1, -1, 1, 1)
    found = bin_log_prob(bins, mean, log_scale, s).exp()
    if s.bin_size == 1:
        return found
    n, _, height, width = found.shape
    levels = found.new_zeros(n, s.bins, s.bin_size, height, width)
    levels[:, :, 0] = found
    return levels.flatten(1, 2)


def draw_bin(mean: Tensor, log_scale: Tensor, uniform: Tensor, s: LogisticSettings) -> Tensor:
    """The first level of the bin of μ + s·logit(u), int64."""
    half = 0.5 * (s.levels - 1)
    scale = log_scale.clamp(s.min_log_scale, LARGEST_LOG_SCALE).exp() * half
    uniform = uniform.to(mean.dtype)
    y = (mean + 1) * half + scale * (uniform.log() - torch.log1p(-uniform))
    bins = ((y - s.first_edge) / s.bin_size).floor().clamp(0, s.bins - 1)
    return bins.long() * s.bin_size


def expected_level(mean: Tensor, log_scale: Tensor, s: LogisticSettings) -> Tensor:
    """Σ_v v P(v), as the sum of P(x ≥ v) over the bins' lower edges."""
    mu, inverse = in_levels(mean, log_scale, s)
    total = torch.zeros_like(mu * inverse)
    for bin_index in range(1, s.bins):
        total = total + torch.sigmoid((mu - (bin_index * s.bin_size + s.first_edge)) * inverse)
    return s.bin_size * total
