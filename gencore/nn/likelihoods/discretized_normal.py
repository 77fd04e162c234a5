"""A normal distribution cut into bins around grey levels."""

import torch
from torch import Tensor

from gencore.sizes import check_positive

__all__ = ["discretized_normal_log_prob"]


def discretized_normal_log_prob(x: Tensor, mean: Tensor, std: Tensor, *, bins: int = 256) -> Tensor:
    r"""Log-probabilities of grey levels scaled to [−1, 1] under normal variables that are rounded.

    .. math:: P(x) = \Phi\Big(\frac{x + \delta - \mu}{\sigma}\Big)
                     - \Phi\Big(\frac{x - \delta - \mu}{\sigma}\Big), \quad
              \delta = \frac{1}{B - 1}

    Level k of B is x = −1 + 2kδ. The first bin reaches down to −∞, the last up to +∞.

    Args:
        x: scaled levels; values between levels are taken for the nearest.
        mean: μ, of the shape of `x`.
        std: σ > 0, of a shape that broadcasts to that of `x`.
        bins: B, at least 2.

    Returns:
        log P, of the shape of `x`, in float64: the difference of two nearly equal values of Φ
        loses its digits in float32.

    Raises:
        ValueError: for fewer than two bins.

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020, (13).

    Example:
        >>> x = torch.tensor([-1.0, 0.0, 1.0])
        >>> discretized_normal_log_prob(x, torch.zeros(3), torch.tensor(1.0), bins=3).exp()
        tensor([0.3085, 0.3829, 0.3085], dtype=torch.float64)
    """
    check_positive("discretized_normal_log_prob", bins=bins - 1)
    top = bins - 1
    level = ((x.double() + 1) * (top / 2)).round()
    centred, std = 2 * level / top - 1 - mean.double(), std.double()
    low = torch.where(level <= 0, -torch.inf, (centred - 1 / top) / std)
    high = torch.where(level >= top, torch.inf, (centred + 1 / top) / std)
    # In the lower tail, where log Φ has all its digits.
    is_above = centred > 0
    low, high = torch.where(is_above, -high, low), torch.where(is_above, -low, high)
    log_high = torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(_log_ndtr(low) - log_high))


def _log_ndtr(x: Tensor) -> Tensor:
    """log Φ with the gradient 0 at −∞, where that of torch is NaN."""
    is_out = x == -torch.inf
    return torch.special.log_ndtr(x.masked_fill(is_out, 0)).masked_fill(is_out, -torch.inf)
