"""How many points of a mixed batch are data: the law of #β."""

import torch
from torch import Tensor

from gencore.ops._support.checks import check_count, finite

__all__ = [
    "beta_count_probabilities",
    "check_smoothing",
    "log_binomials",
    "smoothing_count_probabilities",
]


def smoothing_count_probabilities(batch_size: int, smoothing: float) -> Tensor:
    r"""P(#β = k) of batch smoothing with γ: p* ~ U([0, γ] ∪ [1 − γ, 1]), #β ~ Binomial(B, p*).

    .. math:: P(\#\beta = k) = \frac{S(k + 1) + S(B + 1 - k)}{2 \gamma (B + 1)}, \qquad
              S(j) = P(\operatorname{Binomial}(B + 1, \gamma) \ge j)

    It is ½ at 0 and at B for γ = 0, and 1/(B + 1) for γ = ½.

    Args:
        batch_size: B.
        smoothing: γ, from 0 to ½.

    Returns:
        Probabilities of k = 0, …, B, float64 [B + 1].

    Raises:
        ValueError: for a batch size below 1 or a γ out of range.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.1.

    Example:
        >>> smoothing_count_probabilities(2, 0.25)
        tensor([0.3958, 0.2083, 0.3958], dtype=torch.float64)
    """
    check_count("smoothing_count_probabilities", "batch_size", batch_size, least=1)
    smoothing = check_smoothing("smoothing_count_probabilities", smoothing)
    if smoothing == 0:
        pure = torch.zeros(batch_size + 1, dtype=torch.float64)
        pure[[0, batch_size]] = 0.5
        return pure
    k = torch.arange(batch_size + 2, dtype=torch.float64)
    odds = torch.tensor([smoothing, 1 - smoothing], dtype=torch.float64).log()
    log_probs = log_binomials(batch_size + 1) + k * odds[0] + k.flip(0) * odds[1]
    at_least = log_probs.exp().flip(0).cumsum(0).flip(0)[1:]
    return (at_least + at_least.flip(0)) / (2 * smoothing * (batch_size + 1))


def beta_count_probabilities(batch_size: int, a: float = 1.0, b: float = 1.0) -> Tensor:
    r"""P(#β = k) for p* ~ Beta(a, b), the beta-binomial distribution.

    .. math:: P(\#\beta = k) = \binom Bk \frac{B(k + a, B - k + b)}{B(a, b)} \qquad (4.18)

    Args:
        batch_size: B.
        a: of the prior, positive.
        b: of the prior, positive.

    Returns:
        Probabilities of k = 0, …, B, float64 [B + 1].

    Raises:
        ValueError: for a batch size below 1, or an a or b that is not positive.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.7.

    Example:
        >>> beta_count_probabilities(3)
        tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """
    check_count("beta_count_probabilities", "batch_size", batch_size, least=1)
    for name, value in (("a", a), ("b", b)):
        if not finite("beta_count_probabilities", name, value) > 0:
            raise ValueError(
                f"beta_count_probabilities: {name} is {value}; expected a positive number"
            )
    k = torch.arange(batch_size + 1, dtype=torch.float64)
    log_weights = log_binomials(batch_size) + (k + a).lgamma() + (k.flip(0) + b).lgamma()
    return log_weights.softmax(0)


def log_binomials(size: int) -> Tensor:
    """The logarithms of the binomial coefficients C(size, k), k = 0, …, size, in float64.

    Example:
        >>> log_binomials(4).exp().round()
        tensor([1., 4., 6., 4., 1.], dtype=torch.float64)
    """
    factorials = torch.arange(1, size + 2, dtype=torch.float64).lgamma()
    return factorials[-1] - factorials - factorials.flip(0)


def check_smoothing(owner: str, smoothing: float) -> float:
    """γ, or a ValueError unless it is from 0 to ½."""
    smoothing = finite(owner, "smoothing", smoothing)
    if not 0 <= smoothing <= 0.5:
        raise ValueError(f"{owner}: smoothing is {smoothing}; expected 0 to 0.5")
    return smoothing
