"""How data are distributed around what a decoder gives."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Size, Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from gencore.ops import philox_normal
from gencore.ops.random import philox_uniform

__all__ = ["BernoulliLikelihood", "DecoderLikelihood", "GaussianLikelihood", "check_unit_interval"]


class DecoderLikelihood(nn.Module, ABC):
    """p(x | z), of each element by itself, given the decoder's output for z."""

    @abstractmethod
    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Terms [N, K, ...] whose sum is log p(x | z), of K decoded latents [N, K, ...] of each of
        the data [N, 1, ...]; leading dimensions that are broadcast otherwise will do too."""

    def log_likelihood(self, decoded: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), [N, K], of decoded latents [N, K, ...] and data [N, 1, ...]: the sum of
        these terms."""
        return self.log_prob(decoded, x).flatten(2).sum(2)

    @abstractmethod
    def mean(self, decoded: Tensor) -> Tensor:
        """The expected data of what was decoded, [N, ...]."""

    @abstractmethod
    def draw(self, decoded: Tensor, key: Tensor, first: int = 0) -> Tensor:
        """Data drawn around what was decoded, [N, ...]; `first` rows come before these."""

    @abstractmethod
    def distribution(self, decoded: Tensor) -> Distribution:
        """p(x | z) of what was decoded, [N, ...], as a distribution with batch shape [N]."""

    def decoded_shape(self, event_shape: Size) -> Size:
        """The shape that a decoder gives a data point of a shape: the same, if not said
        otherwise."""
        return event_shape


class GaussianLikelihood(DecoderLikelihood):
    """N(x; decoded, σ²), with one σ for all elements.

    Args:
        scale: σ, or its value at the start.
        learned: whether σ is a parameter.

    Raises:
        ValueError: for a scale that is not positive.

    Example:
        >>> import torch
        >>> GaussianLikelihood(2.0).log_prob(torch.zeros(1), torch.tensor([2.0]))
        tensor([-2.1121])
    """

    def __init__(self, scale: float = 1.0, *, learned: bool = False) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(
                f"GaussianLikelihood: scale is {scale}; expected a positive, finite number"
            )
        self.log_std = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        residual = (x - decoded) * torch.exp(-self.log_std)
        return -0.5 * residual.square() - self._log_normaliser()

    def log_likelihood(self, decoded: Tensor, x: Tensor) -> Tensor:
        """The same as the sum of the terms, with fewer passes over them: σ comes after it."""
        decoded, x = torch.broadcast_tensors(decoded, x)
        error = mse_loss(decoded, x, reduction="none").flatten(2).sum(2)
        size = math.prod(decoded.shape[2:])
        return -0.5 * torch.exp(-2 * self.log_std) * error - size * self._log_normaliser()

    def _log_normaliser(self) -> Tensor:
        return self.log_std + 0.5 * math.log(2 * math.pi)

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded

    def draw(self, decoded: Tensor, key: Tensor, first: int = 0) -> Tensor:
        epsilon = philox_normal(
            decoded.shape, key, first_element=first * decoded[:1].numel(), dtype=decoded.dtype
        )
        return decoded + self.log_std.exp() * epsilon

    def distribution(self, decoded: Tensor) -> Distribution:
        return Independent(Normal(decoded, self.log_std.exp()), decoded.dim() - 1)

    def extra_repr(self) -> str:
        return f"scale={self.log_std.exp().item():.4g}, learned={self.log_std.requires_grad}"


class BernoulliLikelihood(DecoderLikelihood):
    """Elements that are 1 with the probability sigmoid(decoded), and else 0.

    Data between 0 and 1 are taken as expectations: their log-probability is the cross-entropy.

    Raises:
        ValueError: on a call, for data beyond 0 and 1, which on the CPU are looked for.

    Example:
        >>> import torch
        >>> BernoulliLikelihood().log_prob(torch.zeros(1), torch.ones(1))
        tensor([-0.6931])
    """

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        return -self._cross_entropy(decoded, x)

    def log_likelihood(self, decoded: Tensor, x: Tensor) -> Tensor:
        """The same as the sum of the terms, whose sign comes after it."""
        return -self._cross_entropy(decoded, x).flatten(2).sum(2)

    def _cross_entropy(self, decoded: Tensor, x: Tensor) -> Tensor:
        check_unit_interval("BernoulliLikelihood", x)
        decoded, x = torch.broadcast_tensors(decoded, x)
        return binary_cross_entropy_with_logits(decoded, x, reduction="none")

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded.sigmoid()

    def draw(self, decoded: Tensor, key: Tensor, first: int = 0) -> Tensor:
        uniform = philox_uniform(decoded.shape, key, first_element=first * decoded[:1].numel())
        return (uniform < decoded.sigmoid()).to(decoded.dtype)

    def distribution(self, decoded: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=decoded), decoded.dim() - 1)


def check_unit_interval(owner: str, x: Tensor) -> None:
    """Raise a ValueError for data beyond 0 and 1, such as images of 0 to 255; on the CPU alone,
    where it does not hold up other work, and not in a compiled graph."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"{owner}: data are from {x.min().item():.4g} to {x.max().item():.4g}; expected 0 to 1"
        )
