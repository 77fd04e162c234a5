"""Mixture density networks (Bishop 1994)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.models.autoregressive.uniforms import uniforms
from gencore.models.starts import like, normal_starts
from gencore.nn import MLP
from gencore.ops import random_key
from gencore.ops.random import stream_key
from gencore.sizes import check_positive

__all__ = ["Covariance", "GaussianMixtures", "MixtureDensityNetwork"]

Covariance = Literal["unit", "isotropic", "diagonal"]


class GaussianMixtures(NamedTuple):
    """A mixture of K Gaussians of points [D] a row."""

    log_weight: Tensor
    """Logarithms of the weights, [N, K]."""
    mean: Tensor
    """[N, K, D]."""
    log_scale: Tensor
    """Logarithms of the standard deviations, [N, K, D]."""

    def component_log_prob(self, y: Tensor) -> Tensor:
        """log α_k + log N(y; μ_k, σ_k²) of points [N, D], [N, K]."""
        z = (y.unsqueeze(1) - self.mean) * torch.exp(-self.log_scale)
        density = -0.5 * z.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        return self.log_weight + density.sum(2)


class MixtureDensityNetwork(nn.Module):
    r"""A density of y given x: a mixture of Gaussians whose parameters are a network's outputs.

    .. math:: p(y \mid x) = \sum_{k=1}^{K} \alpha_k(x)\, N\big(y;\ \mu_k(x),\ \sigma_k(x)^2\big),
              \qquad \alpha = \mathrm{softmax}(a), \quad \sigma = \sigma_{\min} + e^s

    The least scale σ_min keeps a component that sits on a single point from an infinite
    likelihood. A call is −log p(y | x).

    Args:
        context_size: C, the numbers in a row of x; 0 for a density without x.
        features: D, the numbers in a row of y.
        num_components: K.
        hidden_widths: of the network; none for parameters that are linear in x.
        covariance: "diagonal", "isotropic" (one σ_k for all coordinates) or "unit" (σ = 1).
        min_scale: σ_min.
        activation: of the network.

    Raises:
        ValueError: for sizes that are too small or another covariance; on a call, for data of
            another shape.

    References:
        Bishop, "Mixture Density Networks", 1994, eq. (22)-(29). Mathieu, "Unsupervised Learning
        Under Uncertainty", 2017, (2.5) and (2.6), which lacks a minus sign.

    Example:
        >>> import torch
        >>> from gencore.models import MixtureDensityNetwork
        >>> y = torch.rand(256, 1)                   # x = y + 0.3 sin(2πy) has up to three y an x
        >>> x = y + 0.3 * torch.sin(2 * torch.pi * y)
        >>> model = MixtureDensityNetwork(1, 1, num_components=3)
        >>> model(y, x).mean().backward()
        >>> model.log_prob(y, x).shape, model.sample(x).shape, model.mean(x).shape
        (torch.Size([256]), torch.Size([256, 1]), torch.Size([256, 1]))
    """

    def __init__(
        self,
        context_size: int,
        features: int,
        *,
        num_components: int = 5,
        hidden_widths: Sequence[int] = (64,),
        covariance: Covariance = "diagonal",
        min_scale: float = 1e-3,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        name = "MixtureDensityNetwork"
        check_positive(name, features=features, num_components=num_components)
        check_choice(name, "covariance", covariance, get_args(Covariance))
        if not 0 <= min_scale < math.inf:
            raise ValueError(f"{name}: min_scale is {min_scale}; expected 0 or a positive number")
        self.context_size, self.features, self.num_components = (
            context_size,
            features,
            num_components,
        )
        self.covariance, self.min_scale = covariance, min_scale
        self._num_scales = {"unit": 0, "isotropic": 1, "diagonal": features}[covariance]
        num_outputs = num_components * (1 + features + self._num_scales)
        self.network = MLP(
            context_size, hidden_widths, num_outputs, activation=activation, zero_last=False
        )
        # Centres that start alike would get the same gradient for ever; without a hidden layer or
        # an x nothing else tells them apart.
        self.centres = nn.Parameter(torch.randn(num_components, features))

    def forward(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """−log p(y | x), [N]: what training minimises."""
        return -self.log_prob(y, x)

    def mixtures(self, x: Tensor | None = None, num: int = 1) -> GaussianMixtures:
        """The mixtures of x [N, C]; without x, `num` times the same."""
        x = self._context(x, num)
        k, d, s = self.num_components, self.features, self._num_scales
        logits, mean, log_scale = self.network(x).expand(len(x), -1).split((k, k * d, k * s), 1)
        mean = mean.unflatten(1, (k, d)) + self.centres
        if self.covariance == "unit":
            log_scale = torch.zeros_like(mean)
        else:
            log_scale = log_scale.unflatten(1, (k, s)).expand_as(mean)
            if self.min_scale:
                least = log_scale.new_tensor(math.log(self.min_scale))
                log_scale = torch.logaddexp(log_scale, least)
        return GaussianMixtures(functional.log_softmax(logits, 1), mean, log_scale)

    def log_prob(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """log p(y | x), [N].

        Args:
            y: points [N, D].
            x: [N, C]; none where the context has no size.

        Raises:
            ValueError: for data that do not fit.
        """
        if y.dim() != 2 or y.shape[1] != self.features:
            raise ValueError(
                f"MixtureDensityNetwork: y has shape {list(y.shape)}; expected [N, {self.features}]"
            )
        return self.mixtures(x, len(y)).component_log_prob(y).logsumexp(1)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor | None = None,
        num: int = 1,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """A point for each row of x, [N, D]; without x, `num` points.

        Args:
            x: [N, C]; none where the context has no size.
            num: number of points without x.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of points before these, of other processes.

        Raises:
            ValueError: for an x that does not fit.
        """
        mixtures = self.mixtures(x, num)
        num = len(mixtures.mean)
        device = mixtures.mean.device
        key = random_key(generator, device=device) if key is None else key
        number = uniforms(num, 1, stream_key(key, "samples"), first=first)
        cumulative = mixtures.log_weight.exp().cumsum(1)[:, :-1]
        chosen = (number >= cumulative).sum(1)
        noise = normal_starts(self, num, (self.features,), key=key, first=first, stream="latents")
        rows = torch.arange(num, device=device)
        scale = mixtures.log_scale[rows, chosen].exp()
        return mixtures.mean[rows, chosen] + scale * noise

    def mean(self, x: Tensor | None = None, num: int = 1) -> Tensor:
        """E[y | x] = Σ_k α_k μ_k, [N, D]: what least squares would learn."""
        mixtures = self.mixtures(x, num)
        return (mixtures.log_weight.exp().unsqueeze(2) * mixtures.mean).sum(1)

    @torch.no_grad()
    def mode(self, x: Tensor | None = None, num: int = 1, *, num_steps: int = 100) -> Tensor:
        """The most likely y, [N, D]: the highest of the modes that ascents from the centres find.

        .. math:: y \\leftarrow \\Big(\\sum_k r_k / \\sigma_k^2\\Big)^{-1} \\sum_k r_k \\mu_k /
                  \\sigma_k^2, \\qquad r_k = p(k \\mid y, x)

        Args:
            x: [N, C]; none where the context has no size.
            num: number of points without x.
            num_steps: of each ascent.

        Raises:
            ValueError: for an x that does not fit.

        References:
            Carreira-Perpiñán, "Mode-finding for mixtures of Gaussian distributions", 2000.
        """
        mixtures = self.mixtures(x, num)
        precision = torch.exp(-2 * mixtures.log_scale)
        best, height = mixtures.mean[:, 0], None
        for start in mixtures.mean.unbind(1):
            y = start
            for _ in range(num_steps):
                posterior = mixtures.component_log_prob(y).softmax(1).unsqueeze(2) * precision
                y = (posterior * mixtures.mean).sum(1) / posterior.sum(1)
            reached = mixtures.component_log_prob(y).logsumexp(1)
            if height is None:
                best, height = y, reached
                continue
            higher = reached > height
            best = torch.where(higher.unsqueeze(1), y, best)
            height = torch.maximum(height, reached)
        return best

    def _context(self, x: Tensor | None, num: int) -> Tensor:
        if x is None and not self.context_size:
            return like(self).new_empty(num, 0)
        if x is None or x.dim() != 2 or x.shape[1] != self.context_size:
            given = None if x is None else list(x.shape)
            raise ValueError(
                f"MixtureDensityNetwork: x is {given}; expected a tensor [N, {self.context_size}]"
                if self.context_size
                else f"MixtureDensityNetwork: x is {given}, but context_size is 0"
            )
        return x

    def extra_repr(self) -> str:
        return f"num_components={self.num_components}, covariance={self.covariance!r}"
