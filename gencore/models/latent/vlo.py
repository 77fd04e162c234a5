"""Variational latent optimisation: a VAE without an encoder (Yan 2022, §2.1.7)."""

import torch
from torch import Generator, Tensor, nn

from gencore.inference.data_latents import DataLatents
from gencore.inference.gaussian_posterior import NormalParameters
from gencore.inference.latent_adam import LatentAdam
from gencore.inference.posterior_optimisation import (
    optimise_posterior,
    posterior_of_rows,
    rows_of_posterior,
)
from gencore.models.latent.decoder_likelihood import DecoderLikelihood
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.latent.names import LikelihoodName
from gencore.models.latent.vae import VAE, VAELoss
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count
from gencore.ops.random import stream_key

__all__ = ["VLO", "infer_posterior", "pca_posterior"]


class VLO(LatentGenerator):
    r"""A decoder and, in the place of an encoder, the parameters of every data point's posterior.

    .. math:: \max_\theta \sum_n \max_{\mu_n, \sigma_n} E_{N(\mu_n, \sigma_n^2)}
              [\log p_\theta(x_n \mid z)] - KL(N(\mu_n, \sigma_n^2) \,\|\, N(0, I))

    A training step takes s steps of Adam on the rows of its batch, and then gives the loss of the
    decoder with the rows held fixed. There is no amortisation gap: no encoder has to give all
    posteriors. Those of other data are found by `infer`, with the decoder held fixed.

    Args:
        decoder: as that of :class:`VAE`.
        posterior: where the posteriors of the M training points start, such as `pca_posterior`; or
            a table of their rows [M, 2L], with settings of its own.
        num_inner_steps: s.
        likelihood: as that of :class:`VAE`.

    Attributes:
        vae: the model as a VAE, whose calls want a ``posterior=``.
        latents: the table.

    Raises:
        TypeError, ValueError: for what is no posterior of rows; on a call as :class:`VAE` and
            :class:`DataLatents`.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, Algorithm 1,
        which has the logarithms of variances in the place of those of standard deviations.

    Example:
        >>> import torch
        >>> from gencore.models import VLO, pca_posterior
        >>> from gencore.nn import MLP
        >>> x = torch.randn(100, 3)
        >>> vlo = VLO(MLP(2, (8,), 3), pca_posterior(x, 2))
        >>> index = torch.arange(20)
        >>> vlo(x[index], index).loss.backward()
        >>> q = vlo.infer(torch.randn(5, 3), num_steps=10)
        >>> vlo.vae.log_prob_bound(torch.randn(5, 3), 50, posterior=q).shape
        torch.Size([5])
    """

    def __init__(
        self,
        decoder: nn.Module,
        posterior: NormalParameters | DataLatents,
        *,
        num_inner_steps: int = 5,
        likelihood: LikelihoodName | DecoderLikelihood = "gaussian",
    ) -> None:
        super().__init__()
        check_count("VLO", "num_inner_steps", num_inner_steps, least=0)
        if isinstance(posterior, NormalParameters):
            posterior = DataLatents(rows_of_posterior(posterior))
        if not isinstance(posterior, DataLatents):
            raise TypeError(
                f"VLO: posterior is a {type(posterior).__name__}; expected NormalParameters or "
                "DataLatents"
            )
        if posterior.values.dim() != 2 or posterior.values.shape[1] % 2:
            raise ValueError(
                f"VLO: posterior has rows {list(posterior.values.shape)}; expected [M, 2L]"
            )
        self.latents = posterior
        self.noise_size = self.latent_size = posterior.values.shape[1] // 2
        self.num_inner_steps = num_inner_steps
        self.vae = VAE(_NoEncoder(), decoder, self.latent_size, likelihood=likelihood)

    def forward(
        self,
        x: Tensor,
        index: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        factor: float = 1.0,
    ) -> VAELoss:
        """The loss of training points, after the steps on their posteriors.

        Args:
            x: data [N, ...].
            index: which training points they are, int64 [N].
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            factor: of the rows' learning rate.
        """
        key = random_key(generator, device=x.device) if key is None else key
        q = self.descend(x, index, key=stream_key(key, "latents"), first=first, factor=factor)
        terms: VAELoss = self.vae(x, posterior=q, key=key, first=first)
        return terms

    def descend(
        self, x: Tensor, index: Tensor, *, key: Tensor, first: int = 0, factor: float = 1.0
    ) -> NormalParameters:
        """The posteriors of training points after the steps on them, which the table keeps;
        arguments as for the loss."""
        keys = iter(split_key(key, self.num_inner_steps))

        def loss(rows: Tensor) -> Tensor:
            q = posterior_of_rows(rows)
            return -self.vae.analytic_elbo(x, posterior=q, key=next(keys), first=first)

        rows = self.latents.descend(loss, index, num_steps=self.num_inner_steps, factor=factor)
        return posterior_of_rows(rows)

    def posterior(self, index: Tensor) -> NormalParameters:
        """q(z) of training points [N]."""
        return posterior_of_rows(self.latents(index))

    def infer(
        self,
        x: Tensor,
        num_steps: int = 200,
        *,
        optimizer: LatentAdam | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> NormalParameters:
        """q(z) of other data [N, ...]: `infer_posterior`."""
        return infer_posterior(
            self.vae, x, num_steps, optimizer=optimizer, generator=generator, key=key
        )

    def encode(self, x: Tensor) -> NormalParameters:
        """`infer` with its defaults."""
        return self.infer(x)

    def decode(self, z: Tensor) -> Tensor:
        """The expected data of latents [N, L]."""
        return self.vae.decode(z)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The same: the prior is N(0, I)."""
        return self.vae.decode(noise)

    def extra_repr(self) -> str:
        return f"num_inner_steps={self.num_inner_steps}"


class _NoEncoder(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("VLO: it has no encoder; give a posterior, such as that of `infer`")


def infer_posterior(
    vae: VAE,
    x: Tensor,
    num_steps: int = 200,
    *,
    optimizer: LatentAdam | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> NormalParameters:
    """The diagonal Gaussian of data [N, ...] with the best bound of a VAE, from N(0, I).

    Args:
        vae: the model, of which the decoder and the prior are used, as they are.
        x: data.
        num_steps: of Adam.
        optimizer: ``LatentAdam()``, of learning rate 0.1, if None.
        generator: draws the key where none is given.
        key: int64 [seed, offset].

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (2.5).
    """
    zeros = x.new_zeros(len(x), vae.latent_size)
    bound = vae.analytic_elbo if vae.has_closed_kl else vae.elbo
    return optimise_posterior(
        lambda q, key: bound(x, posterior=q, key=key), NormalParameters(zeros, zeros),
        num_steps=num_steps, optimizer=optimizer, generator=generator, key=key,
    )  # fmt: skip


def pca_posterior(x: Tensor, latent_size: int, *, num_fitted: int = 10_000) -> NormalParameters:
    """The projections of data [N, ...] on their first principal components, with σ = 1.

    Args:
        x: data.
        latent_size: L, at most the numbers of a data point.
        num_fitted: the components are those of so many of the first data.

    Raises:
        ValueError: there are fewer data, or numbers of each, than latents.

    Example:
        >>> import torch
        >>> from gencore.models import pca_posterior
        >>> pca_posterior(torch.randn(50, 1, 4, 4), 3).mean.shape
        torch.Size([50, 3])
    """
    check_count("pca_posterior", "latent_size", latent_size, least=1)
    check_count("pca_posterior", "num_fitted", num_fitted, least=1)
    flat = x.flatten(1)
    fitted = flat[:num_fitted]
    if latent_size > min(fitted.shape):
        raise ValueError(
            f"pca_posterior: {latent_size} components of {list(fitted.shape)} numbers; expected at "
            f"most {min(fitted.shape)}"
        )
    center = fitted.mean(0)
    components = torch.linalg.svd(fitted - center, full_matrices=False).Vh[:latent_size]
    mean = (flat - center) @ components.T
    return NormalParameters(mean, torch.zeros_like(mean))
