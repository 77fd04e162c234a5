"""The variational autoencoder, with any prior and likelihood, and a flow in its posterior."""

from typing import Any, NamedTuple

from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from gencore.inference.gaussian_posterior import (
    NormalParameters,
    bound_log_std,
    draw_latents,
    encode_normal,
    reparametrise,
    standard_normal_kl_terms,
)
from gencore.inference.names import ElboEstimator
from gencore.models.flows.flow_posterior import FlowPosterior
from gencore.models.latent.decoder_likelihood import DecoderLikelihood
from gencore.models.latent.decoder_model import DecoderModel, make_likelihood
from gencore.models.latent.importance_bounds import WeighedLatents
from gencore.models.latent.latent_prior import Prior, make_prior
from gencore.models.latent.names import LikelihoodName
from gencore.ops import random_key
from gencore.ops._support.checks import check_count, number

__all__ = ["VAE", "VAELoss"]


class VAELoss(NamedTuple):
    """Means over a batch, in nats."""

    loss: Tensor
    """recon_weight·reconstruction + kl_weight·kl, a scalar; of kl what counts with free bits."""
    reconstruction: Tensor
    """The mean of -log p(x | z)."""
    kl: Tensor
    """The mean of KL(q(z | x) ‖ p(z)), or of log q(z | x) - log p(z) where it has no closed form.
    """


class _Encoded(NamedTuple):
    """What the encoder gives, where it has been called before."""

    normal: NormalParameters
    context: Tensor | None


class VAE(DecoderModel):
    r"""A variational autoencoder: an encoder and a decoder trained on a bound of log p(x).

    .. math:: \log p(x) \ge E_{q(z \mid x)}\left[\log p(x \mid z)\right] -
              KL(q(z \mid x) \,\|\, p(z)) \qquad (2.1)

    The posterior q(z | x) is a diagonal Gaussian, or what a flow makes of one. A call is the loss,
    whose terms have weights; all densities and bounds are those of the model and have none. With a
    Gaussian of σ = 1 the thesis' weight β of the reconstruction has the gradients of σ² = 1/β.

    Args:
        encoder: data → the means and the logarithms of the standard deviations of q(z | x),
            [N, 2L], which are kept within ±10; with a posterior flow also its context,
            [N, 2L + C].
        decoder: latents [N, L] → the means of x, or for "bernoulli" the logits, or what another
            likelihood takes.
        latent_size: L.
        prior: p(z): a flow of [L] with normal latents and without a context, which is (3.1), a
            `GaussianMixture`, or a distribution of `torch.distributions` over [L] with independent
            elements; N(0, I) if ``None``.
        posterior_flow: makes q(z | x) more than a diagonal Gaussian.
        likelihood: p(x | z): "gaussian" with σ = 1, "bernoulli", or a module, for instance
            ``GaussianLikelihood(0.1, learned=True)`` or a :class:`LevelLikelihood` of 8-bit images.
        recon_weight: of the reconstruction in the loss.
        kl_weight: of the KL divergence in the loss.
        free_bits: λ, in nats: a latent whose KL divergence, on average over the batch, is below λ
            counts as λ in the loss, and is not pressed down further.

    Raises:
        ValueError: for another likelihood, a prior or a flow that does not fit or a negative
            weight, and on a call if the encoder or the decoder gives another shape, or the
            likelihood is not of such data.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. Yan, "Deep Generative Models:
        Design, Improvements and Applications", 2022, (2.1) and (3.1). Mathieu, "Unsupervised
        Learning Under Uncertainty", 2017, (2.19), whose log p(x, z) is to be log p(x | z). Free
        bits: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow",
        2016, (15).

    Example:
        >>> import torch
        >>> from gencore.models import VAE, CouplingFlow
        >>> from gencore.nn import MLP
        >>> prior = CouplingFlow(2, num_layers=2, hidden_widths=(8,))
        >>> vae = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2, prior=prior)
        >>> x = torch.randn(16, 3)
        >>> vae(x).loss.backward()
        >>> vae.log_prob_bound(x, 50).shape, vae.sample(5).shape
        (torch.Size([16]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_size: int,
        *,
        prior: Prior | None = None,
        posterior_flow: FlowPosterior | None = None,
        likelihood: LikelihoodName | DecoderLikelihood = "gaussian",
        recon_weight: float = 1.0,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("VAE", "latent_size", latent_size, least=1)
        number("VAE", "recon_weight", recon_weight)
        number("VAE", "kl_weight", kl_weight)
        number("VAE", "free_bits", free_bits)
        if posterior_flow is not None and posterior_flow.latent_size != latent_size:
            raise ValueError(
                f"VAE: posterior_flow is over [{posterior_flow.latent_size}]; expected "
                f"[{latent_size}]"
            )
        self.encoder, self.decoder = encoder, decoder
        self.prior = make_prior("VAE", prior, latent_size)
        self.has_closed_kl = prior is None and posterior_flow is None
        if free_bits and not self.has_closed_kl:
            raise ValueError(
                f"VAE: free_bits is {free_bits}, but only a diagonal Gaussian has a KL divergence "
                "of each latent, from a standard normal prior; expected 0"
            )
        self.posterior_flow = posterior_flow
        self.likelihood = make_likelihood("VAE", likelihood)
        self.latent_size, self.noise_size = latent_size, self.prior.noise_size
        self.recon_weight, self.kl_weight = recon_weight, kl_weight
        self.free_bits = free_bits

    def forward(
        self,
        x: Tensor,
        *,
        posterior: NormalParameters | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> VAELoss:
        """The loss of data [N, ...], from one latent a data point; arguments as for `log_weights`.

        The KL divergence of a diagonal Gaussian from a standard normal prior is exact, others are
        estimated from the same latents. ``-vae.elbo(x, estimator=…).mean()`` is a loss with other
        estimators of its gradient.
        """
        given, context = self._posterior(x, posterior)
        key = _key(key, generator, x)
        if self.has_closed_kl:
            z, _ = reparametrise(given, 1, key, first)
            terms = standard_normal_kl_terms(given)
            kl = counted = terms.sum(1).mean()
            if self.free_bits:
                counted = terms.mean(0).clamp(min=self.free_bits).sum()
        else:
            z, log_q = self._draw(given, context, 1, key, first)
            kl = counted = (log_q - self.prior.log_prob(z)).mean()
        reconstruction = -self._log_likelihood(x, z).mean()
        loss = self.recon_weight * reconstruction + self.kl_weight * counted
        return VAELoss(loss, reconstruction, kl)

    def log_weights(
        self,
        x: Tensor,
        num: int,
        *,
        posterior: NormalParameters | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_sample: int = 0,
    ) -> Tensor:
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num].

        Args:
            x: data [N, ...].
            num: latents of each.
            posterior: q(z | x) in the place of what the encoder gives.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            first_sample: number of latents of each data point before these.
        """
        key = _key(key, generator, x)
        return self.weigh(
            x, num, key=key, first=first, first_sample=first_sample, posterior=posterior
        ).log_weights

    def weigh(
        self,
        x: Tensor,
        num: int,
        *,
        key: Tensor,
        first: int = 0,
        first_sample: int = 0,
        estimator: ElboEstimator = "reparametrised",
        posterior: NormalParameters | None = None,
    ) -> WeighedLatents:
        """The same latents with their weights, and a choice where gradients by q pass, as in
        :meth:`ImportanceBounds.weigh`.

        With a posterior flow, "path" and "score" evaluate its density, for which an inverse
        autoregressive one takes L short steps.
        """
        check_count("VAE", "num", num, least=1)
        given, context = self._posterior(x, posterior)
        z, log_q = self._draw(given, context, num, key, first, first_sample, estimator)
        log_joint = self._log_likelihood(x, z) + self.prior.log_prob(z)
        return WeighedLatents(z, log_q, log_joint - log_q)

    def analytic_elbo(
        self,
        x: Tensor,
        *,
        posterior: NormalParameters | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The bound (2.1) of each data point, [N], whose KL divergence is exact and whose
        reconstruction is of one latent; arguments as for `log_weights`.

        It has less noise than `elbo`, except near the exact posterior, where that has none.

        Raises:
            ValueError: the divergence has no closed form: the prior is not N(0, I), or the
                posterior has a flow.
        """
        if not self.has_closed_kl:
            raise ValueError(
                "VAE.analytic_elbo: the prior or the posterior has no closed form of the KL "
                "divergence; use elbo"
            )
        given, _ = self._posterior(x, posterior)
        z, _ = reparametrise(given, 1, _key(key, generator, x), first)
        return self._log_likelihood(x, z).squeeze(1) - standard_normal_kl_terms(given).sum(1)

    def encode(self, x: Tensor) -> NormalParameters:
        """q(z | x) of data [N, ...]; with a posterior flow, what the flow starts from."""
        return self._posterior(x, None)[0]

    def codes(self, x: Tensor) -> Tensor:
        """One latent a data point, [N, L]: the posterior's mean, or what its flow makes of it."""
        given, context = self._posterior(x, None)
        if self.posterior_flow is None:
            return given.mean
        return self.posterior_flow.transform.inverse(given.mean, context)[0]

    def decoded(self, z: Tensor) -> Tensor:
        """What the decoder gives, of latents [N, L]."""
        decoded: Tensor = self.decoder(z)
        return decoded

    def decoded_noise(self, noise: Tensor) -> Tensor:
        """What the decoder gives, of the latents of noise u [N, U]."""
        return self.decoded(self.prior.from_noise(noise))

    def prior_distribution(self) -> Distribution:
        """p(z) over [L], for `torch.distributions`."""
        return self.prior.distribution()

    def posterior_distribution(self, x: Tensor) -> Distribution:
        """q(z | x) of data [N, ...], with batch shape [N].

        Raises:
            NotImplementedError: with a posterior flow.
        """
        if self.posterior_flow is not None:
            raise NotImplementedError(
                "VAE: a posterior with a flow is no torch.distributions object; use log_weights"
            )
        return self.encode(x).distribution()

    def _once(self, x: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "posterior": self._posterior(x, given.get("posterior"))}

    def _posterior(self, x: Tensor, posterior: NormalParameters | _Encoded | None) -> _Encoded:
        """What was given, or what the encoder gives; and the context of the posterior's flow."""
        flow, size = self.posterior_flow, self.latent_size
        if isinstance(posterior, _Encoded):
            return posterior
        if posterior is not None:
            if flow is not None:
                raise ValueError("VAE: posterior is given, but it has a flow; expected None")
            if any(part.shape != (len(x), size) for part in posterior):
                raise ValueError(
                    f"VAE: the posterior has shapes {[list(part.shape) for part in posterior]}; "
                    f"expected [{len(x)}, {size}] twice"
                )
            return _Encoded(posterior, None)
        if flow is None:
            return _Encoded(encode_normal("VAE", self.encoder, x, size), None)
        encoded: Tensor = self.encoder(x)
        if encoded.shape != (len(x), 2 * size + flow.context_size):
            raise ValueError(
                f"VAE: the encoder gives {list(encoded.shape)} for data {list(x.shape)}; expected "
                f"{[len(x), 2 * size + flow.context_size]}, with the context of posterior_flow"
            )
        normal, context = encoded.to(x.dtype).tensor_split([2 * size], 1)
        mean, log_std = normal.chunk(2, 1)
        return _Encoded(
            NormalParameters(mean, bound_log_std(log_std)), context if flow.context_size else None
        )

    def _draw(
        self,
        posterior: NormalParameters,
        context: Tensor | None,
        num: int,
        key: Tensor,
        first: int,
        first_sample: int = 0,
        estimator: ElboEstimator = "reparametrised",
    ) -> tuple[Tensor, Tensor]:
        """`num` latents of each data point [N, num, L], and log q of them, [N, num]."""
        if self.posterior_flow is None:
            return draw_latents(posterior, num, key, first, first_sample, estimator)
        flow = self.posterior_flow
        z, log_q = flow(
            *posterior, context,
            num_samples=num, key=key, first=first, first_sample=first_sample,
        )  # fmt: skip
        if estimator == "reparametrised":
            return z, log_q
        z = z.detach() if estimator == "score" else z
        return z, flow.log_prob(z, *posterior, context, path=estimator == "path")

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) of data [N, ...] and latents [N, K, L], [N, K]."""
        return self.log_likelihood(x, self.decoded(z.flatten(0, 1)))

    def extra_repr(self) -> str:
        return (
            f"latent_size={self.latent_size}, recon_weight={self.recon_weight}, "
            f"kl_weight={self.kl_weight}, free_bits={self.free_bits}"
        )


def _key(key: Tensor | None, generator: Generator | None, x: Tensor) -> Tensor:
    return random_key(generator, device=x.device) if key is None else key
