"""A variational autoencoder of the latents of another one (Dai and Wipf 2019)."""

import torch
from torch import Generator, Tensor

from gencore.inference.gaussian_posterior import NormalParameters, log_normal, reparametrise
from gencore.models.latent.decoder_likelihood import GaussianLikelihood
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.latent.vae import VAE, VAELoss
from gencore.nn.evaluating import evaluating
from gencore.ops import random_key, split_key

__all__ = ["TwoStageVAE"]


class TwoStageVAE(LatentGenerator, ImportanceBounds):
    r"""Two variational autoencoders: of the data, and of the latents that the first gives them.

    .. math:: u \sim N(0, I), \qquad z \sim p_2(z \mid u), \qquad x = G_1(z)

    The latents of a data point are z and u, whose posterior is q₁(z | x) q₂(u | z): with it
    `log_prob_bound` bounds the likelihood of p₁(x | z) p₂(z | u) p(u).

    The latents z ~ q₁(z | x) of data fill a space of their own dimension, which the second can
    match although its prior is simple. First the first is trained, then the second with the first
    as it is. Both have a Gaussian likelihood whose scale is learned in the paper.

    Args:
        first: of the data, with a standard normal prior.
        second: of the first one's latents, likewise, with a Gaussian likelihood.

    Raises:
        ValueError: if one of them has another prior or a posterior flow, or the second another
            likelihood.

    References:
        Dai and Wipf, "Diagnosing and Enhancing VAE Models", 2019, §3. Yan, "Deep Generative Models:
        Design, Improvements and Applications", 2022, §3.2.6.

    Example:
        >>> import torch
        >>> from gencore.models import VAE, GaussianLikelihood, TwoStageVAE
        >>> from gencore.nn import MLP
        >>> first = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2)
        >>> second = VAE(MLP(2, (8,), 4), MLP(2, (8,), 2), 2)
        >>> model, x = TwoStageVAE(first, second), torch.randn(16, 3)
        >>> first(x).loss.backward()   # the first stage
        >>> model(x).loss.backward()   # the second one
        >>> model.noise_size, model.sample(4).shape
        (4, torch.Size([4, 3]))
    """

    def __init__(self, first: VAE, second: VAE) -> None:
        super().__init__()
        if not (first.has_closed_kl and second.has_closed_kl):
            raise ValueError(
                "TwoStageVAE: a VAE has another prior than N(0, I) or a posterior flow; expected "
                "neither in both"
            )
        if not isinstance(second.likelihood, GaussianLikelihood):
            raise ValueError(
                "TwoStageVAE: the second VAE has a "
                f"{type(second.likelihood).__name__}; expected a GaussianLikelihood"
            )
        self.first, self.second = first, second
        self.noise_size = second.latent_size + first.latent_size

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> VAELoss:
        """The second stage's loss of data [N, ...], without a gradient in the first VAE."""
        if key is None:
            key = random_key(generator, device=x.device)
        code_key, second_key = split_key(key, 2)
        codes = self.draw_codes(x, key=code_key, first=first)
        return self.second.forward(codes, key=second_key, first=first)

    @torch.no_grad()
    def draw_codes(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Latents z ~ q₁(z | x) of data [N, ...], [N, L], which the second VAE models. The first is
        in evaluation mode: its batch statistics stay as they are."""
        if key is None:
            key = random_key(generator, device=x.device)
        with evaluating(self.first):
            posterior = self.first.encode(x)
        return reparametrise(posterior, 1, key, first)[0].squeeze(1)

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
        """log p(x, z, u) − log q₁(z | x) q₂(u | z) of `num` pairs of latents of each data point,
        [N, num]; arguments as for a VAE."""
        if key is None:
            key = random_key(generator, device=x.device)
        code_key, second_key = split_key(key, 2)
        weights = self.first.log_weights(
            x, num, key=code_key, first=first, first_sample=first_sample
        )
        z, _ = reparametrise(self.encode(x), num, code_key, first, first_sample)  # those of weights
        density = [
            self.second.log_weights(
                z[:, k], 1, key=second_key, first=first, first_sample=first_sample + k
            )
            for k in range(num)
        ]
        return weights - log_normal(z) + torch.cat(density, 1)

    def encode(self, x: Tensor) -> NormalParameters:
        """q₁(z | x) of data [N, ...]."""
        return self.first.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """The expected data of the first one's latents [N, L]."""
        return self.first.decode(z)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The expected data of noise [N, L₂ + L₁]: the second one's latents u, and the noise ε of
        its likelihood, z = μ₂(u) + σ₂ε."""
        u, epsilon = noise.split([self.second.latent_size, self.first.latent_size], 1)
        likelihood = self.second.likelihood
        assert isinstance(likelihood, GaussianLikelihood)
        return self.decode(self.second.decode(u) + likelihood.log_std.exp() * epsilon)
