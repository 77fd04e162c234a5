"""The diagonal Gaussian of latents that an encoder gives: its parameters, and draws from it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gencore.inference.names import ElboEstimator
from gencore.ops import philox_normal
from gencore.ops._support.checks import check_key

__all__ = [
    "NormalParameters",
    "bound_log_std",
    "draw_latents",
    "encode_normal",
    "latent_noise",
    "log_normal",
    "normal_kl_terms",
    "reparametrise",
    "sample_key",
    "standard_normal_kl",
    "standard_normal_kl_terms",
]

# Standard deviations between 4.5e-5 and 22,000, whose squares are far from the ends of float32.
_MOST_LOG_STD = 10.0
# An odd number of 64 bits, so that no two samples have one seed.
_SAMPLE_BITS = 0x9E3779B97F4A7C15


class NormalParameters(NamedTuple):
    """A diagonal Gaussian a row."""

    mean: Tensor
    """[N, L]."""
    log_std: Tensor
    """[N, L]."""

    def distribution(self) -> Distribution:
        """The same as a :class:`torch.distributions.Distribution` over [L]."""
        return Independent(Normal(self.mean, self.log_std.exp(), validate_args=False), 1)

    def to(self, dtype: torch.dtype) -> "NormalParameters":
        return NormalParameters(self.mean.to(dtype), self.log_std.to(dtype))

    def detach(self) -> "NormalParameters":
        """The same without gradients."""
        return NormalParameters(self.mean.detach(), self.log_std.detach())

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density of latents [N, L], [N], or of K of each row, [N, K, L], [N, K]."""
        mean, log_std = self
        if z.dim() == 3:
            mean, log_std = mean.unsqueeze(1), log_std.unsqueeze(1)
        return log_normal((z - mean) * torch.exp(-log_std)) - log_std.sum(-1)


def bound_log_std(log_std: Tensor) -> Tensor:
    """Logarithms of standard deviations within ±10, with the gradients of values without bounds, so
    that a loss can bring them back."""
    # The difference is 0, and has the gradient; subtracting an excess would round large numbers.
    return log_std.detach().clamp(-_MOST_LOG_STD, _MOST_LOG_STD) + (log_std - log_std.detach())


def sample_key(key: Tensor, sample: int) -> Tensor:
    """The key of one of several draws of the same latents: a seed of its own, the same offset.

    Draw 0 has the key itself.
    """
    check_key("sample_key", key)
    if sample == 0:
        return key
    bits = (sample * _SAMPLE_BITS + 2**63) % 2**64 - 2**63  # as a signed number
    return torch.stack([key[0] ^ bits, key[1]])


def encode_normal(
    owner: str, encoder: nn.Module, x: Tensor, latent_size: int, what: str = "data"
) -> NormalParameters:
    """q(z | x) of data [N, ...], whose encoder gives means and logarithms of standard deviations,
    which are kept within ±10.

    Args:
        owner: the model, for the error's text.
        encoder: data → [N, 2L].
        x: data.
        latent_size: L.
        what: x, in the error's text.

    Raises:
        ValueError: the encoder gives another shape.
    """
    parameters: Tensor = encoder(x)
    if parameters.shape != (len(x), 2 * latent_size):
        raise ValueError(
            f"{owner}: the encoder gives {list(parameters.shape)} for {what} {list(x.shape)}; "
            f"expected {[len(x), 2 * latent_size]}"
        )
    mean, log_std = parameters.to(x.dtype).chunk(2, 1)
    return NormalParameters(mean, bound_log_std(log_std))


def draw_latents(
    posterior: NormalParameters,
    num: int,
    key: Tensor,
    first: int = 0,
    first_sample: int = 0,
    estimator: ElboEstimator = "reparametrised",
) -> tuple[Tensor, Tensor]:
    """`num` latents z of each row [N, num, L], and log q(z | x), [N, num].

    By default both have gradients by the posterior. With "path", log q has them by z alone; with
    "score", z has none, and log q those by the posterior where z is held fixed.

    Args:
        posterior: of N rows.
        num: latents of each.
        key: int64 [seed, offset].
        first: number of rows before these.
        first_sample: number of latents of each row before these.
        estimator: as above.
    """
    z, epsilon = reparametrise(posterior, num, key, first, first_sample)
    if estimator == "path":
        return z, posterior.detach().log_prob(z)
    if estimator == "score":
        return z.detach(), posterior.log_prob(z.detach())
    return z, log_normal(epsilon) - posterior.log_std.sum(1, keepdim=True)


def reparametrise(
    posterior: NormalParameters, num: int, key: Tensor, first: int = 0, first_sample: int = 0
) -> tuple[Tensor, Tensor]:
    """`num` latents z = μ + σε of each row, and ε, both [N, num, L]; arguments as for
    `draw_latents`."""
    epsilon = latent_noise(posterior.mean, num, key, first, first_sample)
    mean, log_std = (part.unsqueeze(1) for part in posterior)
    return mean + log_std.exp() * epsilon, epsilon


def latent_noise(
    like: Tensor, num: int, key: Tensor, first: int = 0, first_sample: int = 0
) -> Tensor:
    """The noise N(0, I) of `num` latents of each row, [N, num, L], for `like` [N, L]; further
    arguments as for `draw_latents`."""
    size = like.shape[1]
    draws = [
        philox_normal(like.shape, sample_key(key, k), first_element=first * size, dtype=like.dtype)
        for k in range(first_sample, first_sample + num)
    ]
    return torch.stack(draws, 1)


def log_normal(values: Tensor) -> Tensor:
    """log N(·; 0, I) over the last dimension."""
    return -0.5 * (values.square().sum(-1) + values.shape[-1] * math.log(2 * math.pi))


def standard_normal_kl(posterior: NormalParameters) -> Tensor:
    """KL(q(z | x) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1) − log σ, [N]."""
    return standard_normal_kl_terms(posterior).sum(1)


def standard_normal_kl_terms(posterior: NormalParameters) -> Tensor:
    """The same of each latent, [N, L]."""
    mean, log_std = posterior
    return 0.5 * (mean.square() + _variance_terms(log_std))


def normal_kl_terms(q: NormalParameters, p: NormalParameters) -> Tensor:
    """KL(q ‖ p) of each latent of two diagonal Gaussians, [N, L]."""
    distance = (q.mean - p.mean) * torch.exp(-p.log_std)
    return 0.5 * (distance.square() + _variance_terms(q.log_std - p.log_std))


def _variance_terms(log_ratio: Tensor) -> Tensor:
    """r² − 1 − log r², by expm1, which does not fall below 0 by more than rounding of small
    numbers."""
    twice = 2 * log_ratio
    return torch.expm1(twice) - twice
