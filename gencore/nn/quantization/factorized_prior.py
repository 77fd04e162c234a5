"""Distributions of integers, each independent of the others, from which their codes get lengths."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive

__all__ = ["EntropyModel", "FactorizedPrior"]

# Below it the bin around the mean has the whole probability, and 1/s could overflow.
_MIN_LOG_SCALE = -10.0


class EntropyModel(nn.Module, ABC):
    r"""Independent integers, those of a channel with one distribution.

    .. math:: Q(y) = \prod_i Q_{c(i)}(y_i), \quad Q_c(k) = F_c(k + \tfrac12) - F_c(k - \tfrac12)

    The same formula at a real number is the density there of a variable with the distribution
    function F plus uniform noise in (−½, ½), which training by noise uses.
    """

    @abstractmethod
    def log_prob(self, y: Tensor) -> Tensor:
        """log Q [N, C, ...] in nats of integers, or real numbers, y [N, C, ...]."""

    @abstractmethod
    def probabilities(self, low: int, high: int) -> Tensor:
        """Q, float64 [C, high − low + 1], of the integers from low to high; the first and the last
        one stand for all beyond them too, so that rows add up to 1."""

    @abstractmethod
    def support(self, tail: float) -> tuple[int, int]:
        """Integers low and high, beyond each of which every channel has a probability of at most
        `tail`."""


class FactorizedPrior(EntropyModel):
    r"""A mixture of logistic distributions a channel, cut into bins around the integers.

    .. math:: F_c(y) = \sum_m \pi_{cm}\, \sigma\Big(\frac{y - \mu_{cm}}{s_{cm}}\Big)

    Args:
        channels: C.
        num_components: logistics a channel.

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Ballé et al., "Variational image compression with a scale hyperprior", 2018, section 2 and
        appendix 6.1, whose distribution functions are networks. Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, (6.2).

    Example:
        >>> import torch
        >>> from gencore.nn import FactorizedPrior
        >>> prior = FactorizedPrior(2)
        >>> prior.probabilities(-50, 50).sum(1).float()
        tensor([1., 1.])
    """

    def __init__(self, channels: int, *, num_components: int = 3) -> None:
        super().__init__()
        check_positive("FactorizedPrior", channels=channels, num_components=num_components)
        self.channels, self.num_components = channels, num_components
        shape = (channels, num_components)
        self.logits = nn.Parameter(torch.zeros(shape))
        # Apart at first, or all would learn the same.
        spread = torch.linspace(-1, 1, num_components) if num_components > 1 else torch.zeros(1)
        self.means = nn.Parameter(spread.repeat(channels, 1))
        self.log_scales = nn.Parameter(torch.zeros(shape))

    def log_prob(self, y: Tensor) -> Tensor:
        if y.dim() < 2 or y.shape[1] != self.channels:
            raise ValueError(
                f"FactorizedPrior: y has shape {list(y.shape)}; expected [N, {self.channels}, ...]"
            )
        rows = y.to(self.means.dtype if not y.is_floating_point() else y.dtype).movedim(1, -1)
        log_prob = _mixture(rows, self.logits, self.means, self.log_scales)
        return log_prob.movedim(-1, 1)

    @torch.no_grad()
    def probabilities(self, low: int, high: int) -> Tensor:
        if low >= high:
            raise ValueError(
                f"FactorizedPrior.probabilities: got low {low} and high {high}; expected low < high"
            )
        logits, means, log_scales = (
            parameter.double() for parameter in (self.logits, self.means, self.log_scales)
        )
        values = torch.arange(low, high + 1, dtype=torch.float64, device=means.device)
        table = _mixture(values.unsqueeze(1), logits, means, log_scales).exp()
        weights, rates = logits.softmax(1), torch.exp(-log_scales.clamp(min=_MIN_LOG_SCALE))
        table[0] = (weights * torch.sigmoid((low + 0.5 - means) * rates)).sum(1)
        table[-1] = (weights * torch.sigmoid((means - (high - 0.5)) * rates)).sum(1)
        return table.T.contiguous()

    @torch.no_grad()
    def support(self, tail: float) -> tuple[int, int]:
        if not 0 < tail < 0.5:
            raise ValueError(f"FactorizedPrior.support: tail is {tail}; expected 0 < tail < 1/2")
        reach = self.log_scales.clamp(min=_MIN_LOG_SCALE).exp() * math.log((1 - tail) / tail)
        low = (self.means - reach).min().item()
        high = (self.means + reach).max().item()
        return math.floor(low) - 1, math.ceil(high) + 1

    def extra_repr(self) -> str:
        return f"{self.channels}, num_components={self.num_components}"


def _mixture(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """log(F(y + ½) − F(y − ½)) of y [..., C], from parameters [C, M].

    Of a logistic with b = (y + ½ − μ)/s and a = b − 1/s the difference σ(b) − σ(a) is
    σ(b) σ(−a) (1 − e^(−1/s)), whose logarithm is exact however far y lies in a tail.
    """
    rates = torch.exp(-log_scales.clamp(min=_MIN_LOG_SCALE))
    centred = y.unsqueeze(-1) - means
    upper, lower = (centred + 0.5) * rates, (centred - 0.5) * rates
    inside = torch.log(-torch.expm1(-rates))
    terms = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + inside
    return torch.logsumexp(terms + logits.log_softmax(1), -1)
