"""Bits per dimension, the unit in which likelihoods of images are compared."""

import math

from torch import Tensor

__all__ = ["bits_per_dim"]


def bits_per_dim(
    log_prob: Tensor, num_dims: int, *, bins: int = 256, low: float = 0.0, high: float = 1.0
) -> Tensor:
    r"""Bits per dimension of quantised data, from their log-densities as real numbers.

    .. math:: b = -\frac{\log p(y) + D \log \frac{h - l}{B}}{D \log 2}

    Of data y scaled to [l, h], each of the B grey levels is an interval of width (h − l)/B, and a
    data point of D dimensions a cell of volume ((h − l)/B)^D. With y uniform in the cell of the
    grey levels x, Jensen's inequality bounds the probability of the cell,

    .. math:: \log P(x) = \log \mathbb E_y\Big[p(y) \big(\tfrac{h - l}{B}\big)^D\Big]
              \ge \mathbb E_y[\log p(y)] + D \log \tfrac{h - l}{B}

    so that b, averaged over the noise and the data, is an upper bound of the code length
    −log₂ P(x)/D. It does not change when the data are rescaled with their interval. A density that
    is constant on [l, h]^D has log₂ B bits.

    A log-determinant that already counts the bins, as that of :func:`gencore.ops.dequantize` does,
    makes log p(y) + log_det a bound of log P(x) itself: give it with ``bins=1``.

    Args:
        log_prob: log-densities of the scaled data, in nats, of any shape.
        num_dims: D, the number of dimensions of a data point.
        bins: B, the number of grey levels.
        low: l, the lower end of the first grey level.
        high: h, the upper end of the last one.

    Returns:
        Bits per dimension, of the shape of ``log_prob``.

    Raises:
        ValueError: for numbers of dimensions or bins that are not positive, or an empty interval.

    References:
        Theis, van den Oord and Bethge, "A note on the evaluation of generative models", 2016,
        section 3.1. Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020,
        section 2.12.1.

    Example:
        >>> import math, torch
        >>> from gencore.metrics import bits_per_dim
        >>> log_prob = torch.tensor([-3 * math.log(2)])  # constant on [-1, 1]^3
        >>> bits_per_dim(log_prob, 3, low=-1.0, high=1.0)
        tensor([8.])
    """
    if num_dims < 1 or bins < 1:
        raise ValueError(
            f"bits_per_dim: num_dims is {num_dims} and bins {bins}; expected positive numbers"
        )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bits_per_dim: got low {low} and high {high}; expected low < high")
    log_cell = num_dims * math.log((high - low) / bins)
    return -(log_prob + log_cell) / (num_dims * math.log(2))
