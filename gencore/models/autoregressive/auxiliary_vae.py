"""A variational autoencoder of an auxiliary image; of the image itself, it is the plain one."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.autoregressive.auxiliary_targets import AuxiliaryTarget
from gencore.models.autoregressive.bound_terms import BoundTerms
from gencore.models.autoregressive.levels import check_levels
from gencore.models.flows.flow_posterior import FlowPosterior
from gencore.models.log_mean_exp import log_mean_exp
from gencore.models.shapes import output_shape
from gencore.models.starts import normal_starts
from gencore.nn.causal import PixelInput
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import check_count

__all__ = ["AuxiliaryVAE", "Inference", "LogLikelihood"]

LogLikelihood = Callable[[Tensor, Tensor], Tensor]
"""(f(z) [M, ...], numbers of images [M]) → the log-likelihood of these images, [M]."""


class Inference(NamedTuple):
    """A latent of each image."""

    z: Tensor
    """z ~ q(z | x), [N, L]."""
    kl: Tensor
    """KL(q(z | x) ‖ p(z)), [N]: exact where q is Gaussian, else log q(z | x) - log p(z)."""


class AuxiliaryVAE(nn.Module):
    r"""A variational autoencoder whose decoder gives a map f(z), of the means of an image y(x).

    .. math:: \log p(y) \ge \mathbb E_{q(z | x)}\Big[\sum_j \log p(y_j \mid f(z))\Big]
              - \mathrm{KL}\big(q(z | x) \,\Vert\, N(0, I)\big)

    Its factorised likelihood models dependencies of pixels by z alone. With y = x it is the plain
    variational autoencoder (3.3); it is the half of :class:`gencore.models.AGAVE` that makes z
    meaningful.

    Args:
        encoder: images [N, C, H, W], of levels scaled to [−1, 1] → mean, log-standard deviation
            and context of the posterior, [N, 2L + K].
        decoder: latents [N, L] → f(z), [N, *target.shape].
        target: y and its likelihood.
        latent_size: L.
        posterior: what makes a Gaussian flexible, with contexts of K numbers; without it
            q(z | x) is a diagonal Gaussian, and K = 0.

    Raises:
        ValueError: for sizes that do not fit, or networks that give other shapes.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (3.3) and
        section 3.4.1.

    Example:
        >>> import torch
        >>> from gencore.models import AuxiliaryVAE, FullResolutionTarget
        >>> from gencore.nn import ImageDecoder, ImageEncoder
        >>> shape = (1, 8, 8)
        >>> vae = AuxiliaryVAE(
        ...     ImageEncoder(shape, 2 * 4), ImageDecoder(4, shape), FullResolutionTarget(shape), 4
        ... )
        >>> x = torch.randint(256, (3, *shape))
        >>> vae.bound(x).shape, vae.sample(5).shape
        (torch.Size([3]), torch.Size([5, 1, 8, 8]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        target: AuxiliaryTarget,
        latent_size: int,
        *,
        posterior: FlowPosterior | None = None,
    ) -> None:
        super().__init__()
        check_count("AuxiliaryVAE", "latent_size", latent_size, least=1)
        posterior = FlowPosterior(latent_size, num_steps=0) if posterior is None else posterior
        if posterior.latent_size != latent_size:
            raise ValueError(
                f"AuxiliaryVAE: posterior has {posterior.latent_size} latents; expected "
                f"latent_size, {latent_size}"
            )
        self.encoder, self.decoder, self.target = encoder, decoder, target
        self.latent_size, self.posterior = latent_size, posterior
        self.input = PixelInput(target.image_shape[0], target.levels)
        # Two of each: a layer that normalises over a batch takes no single one.
        shape = (2, self.input.out_channels, *target.image_shape[1:])
        if found := output_shape("AuxiliaryVAE", "the encoder", encoder, shape):
            self._check_parameters(found)
        if found := output_shape("AuxiliaryVAE", "the decoder", decoder, (2, latent_size)):
            self._check_decoded(found)

    def loss_terms(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> BoundTerms:
        """The terms of the bound; there is no primary one. Arguments as for `infer`."""
        z, kl = self.infer(x, generator=generator, key=key, first=first)
        auxiliary = self.target.log_prob(self.decode(z), self.target.target(x))
        return BoundTerms(torch.zeros_like(kl), auxiliary, kl)

    def bound(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """A lower bound of log p(y), [N] in nats, from one latent an image. Arguments as for
        `infer`."""
        terms = self.loss_terms(x, generator=generator, key=key, first=first)
        return terms.auxiliary - terms.kl

    def infer(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Inference:
        """A latent of each image.

        Args:
            x: levels [N, C, H, W].
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of images of the batch before these, on lower ranks and in earlier parts.

        Raises:
            TypeError: for x of another dtype than uint8 or int64.
            ValueError: for x of another shape, or with levels that there are none of.
        """
        mean, log_std, context = self._posterior_of(x)
        epsilon = self._noise(mean, 1, generator, key, first).squeeze(1)
        z, log_q = self.posterior(mean, log_std, context, epsilon=epsilon)
        if self.posterior.is_gaussian:
            kl = 0.5 * (mean.square() + torch.exp(2 * log_std) - 1 - 2 * log_std).sum(1)
        else:
            kl = log_q - _log_prior(z)
        return Inference(z, kl)

    def encode(self, x: Tensor) -> Tensor:
        """The latent [N, L] in the middle of q(z | x): without noise, through the posterior. Raises
        as `infer` does."""
        mean, log_std, context = self._posterior_of(x)
        z: Tensor = self.posterior(mean, log_std, context, epsilon=torch.zeros_like(mean)).z
        return z

    def decode(self, z: Tensor) -> Tensor:
        """f(z), [N, *target.shape], of latents [N, L]."""
        f: Tensor = self.decoder(z)
        self._check_decoded(f.shape, len(z))
        return f

    def log_weights(
        self,
        x: Tensor,
        k: int,
        log_likelihood: LogLikelihood | None = None,
        *,
        chunk: int = 512,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The logarithms of k importance weights p(·, z)/q(z | x) of each image, [N, k].

        Args:
            x: levels [N, C, H, W].
            k: latents an image.
            log_likelihood: of what is weighted; that of y where none is given.
            chunk: latents that are decoded at once.
            generator, key, first: as for `infer`.
        """
        check_count("AuxiliaryVAE", "k", k, least=1)
        check_count("AuxiliaryVAE", "chunk", chunk, least=1)
        mean, log_std, context = self._posterior_of(x)
        epsilon = self._noise(mean, k, generator, key, first).flatten(0, 1)
        numbers = torch.arange(len(x), device=x.device).repeat_interleave(k)
        if log_likelihood is None:
            y = self.target.target(x)
            log_likelihood = lambda f, number: self.target.log_prob(f, y[number])  # noqa: E731
        weights = []
        for number, noise in zip(numbers.split(chunk), epsilon.split(chunk), strict=True):
            z, log_q = self.posterior(
                mean[number],
                log_std[number],
                None if context is None else context[number],
                epsilon=noise,
            )
            weights.append(log_likelihood(self.decode(z), number) + _log_prior(z) - log_q)
        return torch.cat(weights).view(len(x), k)

    def iw_bound(
        self,
        x: Tensor,
        k: int = 150,
        *,
        chunk: int = 512,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The importance-weighted bound (2.64) of log p(y), [N]; arguments as for
        `log_weights`."""
        weights = self.log_weights(x, k, chunk=chunk, generator=generator, key=key, first=first)
        return log_mean_exp(weights, 1)

    def sample_latents(self, num: int, *, generator: Generator | None = None) -> Tensor:
        """z ~ N(0, I), [num, L]."""
        return normal_starts(self, num, (self.latent_size,), generator=generator, stream="latents")

    @torch.no_grad()
    def sample(self, num: int, *, generator: Generator | None = None) -> Tensor:
        """Auxiliary images y ~ p(y | f(z)), int64 [num, *target.shape]."""
        z = self.sample_latents(num, generator=generator)
        return self.target.sample(self.decode(z), generator=generator)

    def _posterior_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean, log-standard deviation and context of the posterior, float32 at least."""
        check_levels("AuxiliaryVAE", x, self.target.image_shape, self.target.levels)
        size, context_size = self.latent_size, self.posterior.context_size
        parameters: Tensor = self.encoder(self.input(x))
        self._check_parameters(parameters.shape, len(x))
        parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
        mean, log_std, context = parameters.split([size, size, context_size], 1)
        return mean, log_std, context if context_size else None

    def _check_parameters(self, shape: torch.Size, num: int = 2) -> None:
        size, context_size = self.latent_size, self.posterior.context_size
        if shape != (num, 2 * size + context_size):
            raise ValueError(
                f"AuxiliaryVAE: the encoder gives {list(shape)}; expected "
                f"{[num, 2 * size + context_size]}: means and log-standard deviations of "
                f"{size} latents, and a context of {context_size}"
            )

    def _check_decoded(self, shape: torch.Size, num: int = 2) -> None:
        if shape != (num, *self.target.shape):
            raise ValueError(
                f"AuxiliaryVAE: the decoder gives {list(shape)}; expected "
                f"{[num, *self.target.shape]}, the shape of the auxiliary image"
            )

    def _noise(
        self, like: Tensor, k: int, generator: Generator | None, key: Tensor | None, first: int
    ) -> Tensor:
        """N(0, 1) noise [N, k, L] of the images from number `first` of a batch on."""
        if key is None:
            key = random_key(generator, device=like.device)
        shape = (len(like), k, self.latent_size)
        return philox_normal(
            shape, key, first_element=first * k * self.latent_size, dtype=like.dtype
        )


def _log_prior(z: Tensor) -> Tensor:
    """log N(z; 0, I), [N]."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
