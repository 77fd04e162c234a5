"""The variational autoencoder, with a standard normal prior or that of a flow."""

from typing import NamedTuple, get_args

from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.evaluating import evaluating
from gencore.models.flows.flow import Flow
from gencore.models.latent.decoder_likelihood import (
    BernoulliLikelihood,
    DecoderLikelihood,
    GaussianLikelihood,
)
from gencore.models.latent.gaussian_posterior import (
    NormalParameters,
    draw_latents,
    encode_normal,
    log_normal,
    standard_normal_kl,
)
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.latent.latent_prior import check_prior
from gencore.models.latent.names import LikelihoodName
from gencore.models.starts import like
from gencore.ops import random_key
from gencore.ops._support.checks import number
from gencore.ops.random import stream_key
from gencore.samplers.chains import check_count

__all__ = ["VAE", "VAELoss"]


class VAELoss(NamedTuple):
    """Means over a batch, in nats."""

    loss: Tensor
    """recon_weight·reconstruction + kl_weight·kl, a scalar."""
    reconstruction: Tensor
    """The mean of -log p(x | z)."""
    kl: Tensor
    """The mean of KL(q(z | x) ‖ p(z)), or with a flow's prior of log q(z | x) - log p(z)."""


class VAE(ImportanceBounds, LatentGenerator):
    r"""A variational autoencoder: an encoder and a decoder trained on a bound of log p(x).

    .. math:: \log p(x) \ge E_{q(z \mid x)}\left[\log p(x \mid z) + \log p_0(f(z)) +
              \log\left\lvert\det\frac{\partial f(z)}{\partial z}\right\rvert -
              \log q(z \mid x)\right] \qquad (3.1)

    The prior of z is that of a flow f, or without one N(0, I), which is (2.1). The posterior
    q(z | x) is a diagonal Gaussian. A call is the loss, whose terms have weights; all densities and
    bounds are those of the model and have none. With a Gaussian of σ = 1 the thesis' weight β of
    the reconstruction has the gradients of σ² = 1/β.

    Args:
        encoder: data → the means and the logarithms of the standard deviations of q(z | x),
            [N, 2L].
        decoder: latents [N, L] → the means of x, or for "bernoulli" the logits.
        latent_size: L.
        prior: a flow of [L] with normal latents and without a context; N(0, I) if ``None``.
        likelihood: p(x | z): "gaussian" with σ = 1, "bernoulli", or a module, for instance
            ``GaussianLikelihood(0.1, learned=True)``.
        recon_weight: of the reconstruction in the loss.
        kl_weight: of the KL divergence in the loss.

    Raises:
        ValueError: for another likelihood, a prior that does not fit or a negative weight, and on a
            call if the encoder or the decoder gives another shape.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. Yan, "Deep Generative Models:
        Design, Improvements and Applications", 2022, (2.1) and (3.1).

    Example:
        >>> import torch
        >>> from gencore.models import VAE, CouplingFlow
        >>> from gencore.nn import MLP
        >>> prior = CouplingFlow(2, num_layers=2, hidden_widths=(8,))
        >>> vae = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2, prior=prior)
        >>> x = torch.randn(16, 3)
        >>> vae(x).loss.backward()
        >>> vae.elbo(x).shape, vae.sample(5).shape
        (torch.Size([16]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_size: int,
        *,
        prior: Flow | None = None,
        likelihood: LikelihoodName | DecoderLikelihood = "gaussian",
        recon_weight: float = 1.0,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_count("VAE", "latent_size", latent_size, least=1)
        check_prior("VAE", prior, latent_size)
        number("VAE", "recon_weight", recon_weight)
        number("VAE", "kl_weight", kl_weight)
        if not isinstance(likelihood, DecoderLikelihood):
            check_choice("VAE", "likelihood", likelihood, get_args(LikelihoodName))
            likelihood = GaussianLikelihood() if likelihood == "gaussian" else BernoulliLikelihood()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.likelihood = likelihood
        self.latent_size = self.noise_size = latent_size
        self.recon_weight, self.kl_weight = recon_weight, kl_weight

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> VAELoss:
        """The loss of data [N, ...], from one latent a data point; arguments as for `elbo`.

        The KL divergence from a standard normal prior is exact, that from a flow's is estimated
        from the same latents.
        """
        posterior = self.encode(x)
        z, log_q = draw_latents(posterior, 1, _key(key, generator, x), first)
        reconstruction = -self._log_likelihood(x, z).mean()
        if self.prior is None:
            kl = standard_normal_kl(posterior).mean()
        else:
            kl = (log_q - self._log_prior(z)).mean()
        loss = self.recon_weight * reconstruction + self.kl_weight * kl
        return VAELoss(loss, reconstruction, kl)

    def log_weights(
        self,
        x: Tensor,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num]."""
        check_count("VAE", "num", num, least=1)
        z, log_q = draw_latents(self.encode(x), num, _key(key, generator, x), first)
        return self._log_likelihood(x, z) + self._log_prior(z) - log_q

    def encode(self, x: Tensor) -> NormalParameters:
        """q(z | x) of data [N, ...]."""
        return encode_normal("VAE", self.encoder, x, self.latent_size)

    def decode(self, z: Tensor) -> Tensor:
        """The expected data of latents [N, L]."""
        return self.likelihood.mean(self.decoder(z))

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The expected data of noise u, [N, L], whose latents are f⁻¹(u)."""
        return self.decode(self._latents(noise))

    def sample(
        self,
        num: int,
        *,
        noise: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data of latents from the prior, of the model in evaluation mode: the expected ones, or
        drawn.

        Args:
            num: number of samples.
            noise: whether they are drawn from p(x | z), as the model's density has it; the expected
                data are what images are shown by.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        with evaluating(self):
            z = self._latents(self.sample_noise(num, key=key, first=first))
            decoded: Tensor = self.decoder(z)
        if noise:
            return self.likelihood.draw(decoded, stream_key(key, "samples"), first)
        return self.likelihood.mean(decoded)

    def _latents(self, noise: Tensor) -> Tensor:
        return noise if self.prior is None else self.prior.transform.inverse(noise)[0]

    def _log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of latents [N, K, L], [N, K]."""
        if self.prior is None:
            return log_normal(z)
        return self.prior.log_prob(z.flatten(0, 1)).unflatten(0, z.shape[:2])

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) of data [N, ...] and latents [N, K, L], [N, K]."""
        decoded: Tensor = self.decoder(z.flatten(0, 1))
        if decoded.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"VAE: the decoder gives {list(decoded.shape)}; expected "
                f"[N, {', '.join(map(str, x.shape[1:]))}], the shape of the data"
            )
        decoded = decoded.to(x.dtype).unflatten(0, z.shape[:2])
        return self.likelihood.log_prob(decoded, x.unsqueeze(1)).flatten(2).sum(2)

    def extra_repr(self) -> str:
        return (
            f"latent_size={self.latent_size}, recon_weight={self.recon_weight}, "
            f"kl_weight={self.kl_weight}"
        )


def _key(key: Tensor | None, generator: Generator | None, x: Tensor) -> Tensor:
    return random_key(generator, device=x.device) if key is None else key
