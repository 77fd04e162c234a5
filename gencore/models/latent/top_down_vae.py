"""The hierarchical VAE whose levels are drawn from the top down."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.inference.gaussian_posterior import (
    NormalParameters,
    latent_noise,
    log_normal,
    normal_kl_terms,
)
from gencore.models.latent.decoder_likelihood import DecoderLikelihood
from gencore.models.latent.decoder_model import DecoderModel, make_likelihood
from gencore.models.latent.names import LikelihoodName
from gencore.models.latent.top_down_level import TopDownLevel
from gencore.ops import random_key
from gencore.ops._support.checks import check_count, number

__all__ = ["TopDownLoss", "TopDownVAE"]


class TopDownLoss(NamedTuple):
    """Means over a batch, in nats."""

    loss: Tensor
    """recon_weight·reconstruction + kl_weight·Σ_i max(kl_i, free_bits), a scalar."""
    reconstruction: Tensor
    """The mean of -log p(x | z)."""
    kl: Tensor
    """The mean of KL(q(z | x) ‖ p(z)), a scalar."""
    level_kls: Tensor
    """Its part of each level, KL(q(z_i | z_{<i}, x) ‖ p(z_i | z_{<i})), the top first, [levels]."""


class _Level(NamedTuple):
    """One level of a pass from the top down."""

    z: Tensor
    prior: NormalParameters
    posterior: NormalParameters


class TopDownVAE(DecoderModel):
    r"""A VAE with levels of latents z_1, …, z_L, drawn from the top down by model and posterior.

    .. math:: p(z) = \prod_i N(z_i; \mu_i(z_{<i}), \sigma_i^2(z_{<i})) ,\quad
              q(z \mid x) = \prod_i N(z_i; \mu'_i(z_{<i}, h_i), \sigma_i'^2(z_{<i}, h_i))

    .. math:: \log p(x) \ge E_q[\log p(x \mid z)] -
              \sum_i E_q[KL(q(z_i \mid z_{<i}, x) \,\|\, p(z_i \mid z_{<i}))]

    The encoder's features h_i are deterministic, from the bottom up. Latents are given to and by
    the methods as one vector, the top first, and so is their noise u ~ N(0, I):
    z_i = μ_i(z_{<i}) + σ_i(z_{<i}) u_i. With one level whose prior is N(0, I) it is :class:`VAE`,
    draw by draw.

    Args:
        encoder: data [N, ...] → the features of each level, the top first, e.g.
            :class:`gencore.nn.BottomUp`.
        levels: the top first, e.g. of :class:`VectorLevel` or :class:`ConvLevel`.
        decoder: the state below the last level → the means of x, or for "bernoulli" the logits, or
            what another likelihood takes.
        start: the state of the top level, for every data point, learned if it is a parameter; none
            for :class:`VectorLevel`.
        likelihood: p(x | z), as of :class:`VAE`.
        recon_weight: of the reconstruction in the loss.
        kl_weight: of the KL divergence in the loss.
        free_bits: λ, in nats: a level whose KL divergence, on average over the batch, is below λ
            counts as λ in the loss, and is not pressed down further.

    Raises:
        ValueError: for no levels, a negative weight or another likelihood, and on a call if the
            encoder or the decoder gives what does not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §2.10.2, whose
        order of levels is here the top first throughout. Sønderby et al., "Ladder Variational
        Autoencoders", 2016. Free bits: Kingma et al., "Improved Variational Inference with Inverse
        Autoregressive Flow", 2016, (15).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gencore.models import TopDownVAE, VectorLevel
        >>> from gencore.nn import MLP, BottomUp
        >>> encoder = BottomUp(nn.Linear(6, 8), nn.Linear(8, 5))
        >>> levels = [VectorLevel(2, MLP(5, (8,), 4)),
        ...           VectorLevel(3, MLP(2 + 8, (8,), 6), MLP(2, (8,), 6))]
        >>> vae = TopDownVAE(encoder, levels, MLP(5, (8,), 6))
        >>> x = torch.randn(16, 6)
        >>> vae(x).loss.backward()
        >>> vae(x).level_kls.shape, vae.log_prob_bound(x, 50).shape, vae.sample(4).shape
        (torch.Size([2]), torch.Size([16]), torch.Size([4, 6]))
    """

    start: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        levels: Sequence[TopDownLevel],
        decoder: nn.Module,
        *,
        start: Tensor | None = None,
        likelihood: LikelihoodName | DecoderLikelihood = "gaussian",
        recon_weight: float = 1.0,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        if not levels:
            raise ValueError("TopDownVAE: there are no levels; expected one or more")
        number("TopDownVAE", "recon_weight", recon_weight)
        number("TopDownVAE", "kl_weight", kl_weight)
        number("TopDownVAE", "free_bits", free_bits)
        self.encoder, self.decoder = encoder, decoder
        self.levels = nn.ModuleList(levels)
        if isinstance(start, nn.Parameter):
            self.start = start
        else:
            self.register_buffer("start", torch.zeros(0) if start is None else start)
        self.likelihood = make_likelihood("TopDownVAE", likelihood)
        self.latent_sizes = [level.latent_size for level in levels]
        self.latent_size = self.noise_size = sum(self.latent_sizes)
        self.recon_weight, self.kl_weight = recon_weight, kl_weight
        self.free_bits = free_bits

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> TopDownLoss:
        """The loss of data [N, ...], from one draw of each level a data point, whose KL divergence
        given the levels above is exact; arguments as for `log_weights`."""
        log_likelihood, _, levels = self._pass(x, 1, key, generator, first)
        level_kls = torch.stack([
            normal_kl_terms(level.posterior, level.prior).sum(1).mean() for level in levels
        ])  # fmt: skip
        counted = level_kls.clamp(min=self.free_bits) if self.free_bits else level_kls
        reconstruction = -log_likelihood.mean()
        loss = self.recon_weight * reconstruction + self.kl_weight * counted.sum()
        return TopDownLoss(loss, reconstruction, level_kls.sum(), level_kls)

    def log_weights(
        self,
        x: Tensor,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_sample: int = 0,
    ) -> Tensor:
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num].

        Args:
            x: data [N, ...].
            num: latents of each.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            first_sample: number of latents of each data point before these.
        """
        check_count("TopDownVAE", "num", num, least=1)
        log_likelihood, noise, levels = self._pass(x, num, key, generator, first, first_sample)
        log_ratio = -log_normal(noise)
        for level in levels:
            difference = level.prior.log_prob(level.z) + level.posterior.log_std.sum(1)
            log_ratio = log_ratio + difference.view(log_ratio.shape)
        return log_likelihood + log_ratio

    def analytic_elbo(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The bound of each data point, [N], from one draw of each level, whose KL divergence given
        the levels above is exact; arguments as for `log_weights`."""
        log_likelihood, _, levels = self._pass(x, 1, key, generator, first)
        kl = sum(normal_kl_terms(level.posterior, level.prior).sum(1) for level in levels)
        return log_likelihood.squeeze(1) - kl

    def encode(self, x: Tensor) -> Tensor:
        """The latents of data [N, ...], [N, L]: the mean of each level's posterior given those
        above."""
        no_noise = x.new_zeros(len(x), self.latent_size)
        return torch.cat([level.z for level in self._infer(self._features(x), no_noise)[1]], 1)

    def decoded(self, z: Tensor) -> Tensor:
        """What the decoder gives, of latents [N, L]."""
        state = self._start(len(z))
        for level, part in zip(self._levels(), z.split(self.latent_sizes, 1), strict=True):
            state = level.next_state(state, part)
        decoded: Tensor = self.decoder(state)
        return decoded

    def decoded_noise(self, noise: Tensor) -> Tensor:
        """What the decoder gives, of the latents of noise u [N, L]."""
        return self.decoded(self.from_noise(noise))

    def from_noise(self, noise: Tensor) -> Tensor:
        """The latents of noise u from the model's own levels, [N, L] both."""
        state, latents = self._start(len(noise)), []
        for level, part in zip(self._levels(), noise.split(self.latent_sizes, 1), strict=True):
            prior = level.prior(state)
            latents.append(prior.mean + prior.log_std.exp() * part)
            state = level.next_state(state, latents[-1])
        return torch.cat(latents, 1)

    def to_noise(self, z: Tensor) -> Tensor:
        """The noise whose latents are z, [N, L] both: what each level adds to those above."""
        state, noise = self._start(len(z)), []
        for level, part in zip(self._levels(), z.split(self.latent_sizes, 1), strict=True):
            prior = level.prior(state)
            noise.append((part - prior.mean) * torch.exp(-prior.log_std))
            state = level.next_state(state, part)
        return torch.cat(noise, 1)

    def _pass(
        self,
        x: Tensor,
        num: int,
        key: Tensor | None,
        generator: Generator | None,
        first: int,
        first_sample: int = 0,
    ) -> tuple[Tensor, Tensor, list[_Level]]:
        """log p(x | z) and the noise of `num` draws of each data point, [N, num] and [N, num, L],
        and the levels, of N·num rows."""
        if key is None:
            key = random_key(generator, device=x.device)
        like = x.new_empty(1).expand(len(x), self.latent_size)
        noise = latent_noise(like, num, key, first, first_sample)
        features = self._features(x)
        if num > 1:
            features = [part.repeat_interleave(num, 0) for part in features]
        state, levels = self._infer(features, noise.flatten(0, 1))
        return self.log_likelihood(x, self.decoder(state)), noise, levels

    def _infer(self, features: Sequence[Tensor], noise: Tensor) -> tuple[Tensor, list[_Level]]:
        """The state below the last level, and the levels, of draws from the posterior."""
        state, levels = self._start(len(noise)), []
        parts = noise.split(self.latent_sizes, 1)
        for level, h, part in zip(self._levels(), features, parts, strict=True):
            # In the precision of the data, where layers run in a lower one.
            prior = level.prior(state).to(noise.dtype)
            posterior = level.posterior(state, h).to(noise.dtype)
            z = posterior.mean + posterior.log_std.exp() * part
            levels.append(_Level(z, prior, posterior))
            state = level.next_state(state, z)
        return state, levels

    def _levels(self) -> Iterator[TopDownLevel]:
        for level in self.levels:
            assert isinstance(level, TopDownLevel)
            yield level

    def _start(self, num: int) -> Tensor:
        return self.start.expand(num, *self.start.shape)

    def _features(self, x: Tensor) -> Sequence[Tensor]:
        features: Sequence[Tensor] = self.encoder(x)
        if isinstance(features, Tensor) or len(features) != len(self.levels):
            given = "one tensor" if isinstance(features, Tensor) else f"{len(features)} of them"
            raise ValueError(
                f"TopDownVAE: the encoder gives {given}; expected the features of "
                f"{len(self.levels)} levels, the top first, as a tuple"
            )
        return features

    def extra_repr(self) -> str:
        return (
            f"latent_sizes={self.latent_sizes}, recon_weight={self.recon_weight}, "
            f"kl_weight={self.kl_weight}, free_bits={self.free_bits}"
        )
