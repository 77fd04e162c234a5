"""Adaptive density estimation: a variational autoencoder of a flow's features (Lucas 2020)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.inference.gaussian_posterior import (
    NormalParameters,
    draw_latents,
    encode_normal,
    log_normal,
)
from gencore.inference.names import ElboEstimator
from gencore.models.latent.importance_bounds import ImportanceBounds, WeighedLatents
from gencore.models.starts import like, normal_starts
from gencore.nn import Transform
from gencore.ops import philox_normal, random_key, split_key
from gencore.ops._support.checks import check_count
from gencore.ops.random import stream_key

__all__ = ["VADE", "EncoderInput"]

EncoderInput = Literal["features", "data"]


class VADE(ImportanceBounds):
    r"""V-ADE: a variational autoencoder that models features y = f(x) in the place of the data.

    .. math:: p(x) = \left\lvert\det\frac{\partial f}{\partial x}\right\rvert
              \int N(z; 0, I)\, N(f(x); \mu(z), \sigma^2 I)\, dz

    f is a flow and is trained with the rest, so the decoder's Gaussian need not suit the data. The
    log-determinant keeps f from collapsing the features. A call is the objective (5.5), the mean
    of −`elbo`. With f the identity it is the plain variational autoencoder.

    Args:
        encoder: features, or data → the means and the logarithms of the standard deviations of
            q(z | x), [N, 2L].
        decoder: μ, latents [N, L] → features, in the shape that f gives them.
        features: f, data → features.
        latent_size: L.
        encoder_input: what the encoder sees: f(x), or x itself. The thesis has both, q(z | f(x))
            and q(z | x); the bound holds for either.

    Raises:
        ValueError: for another `encoder_input`, or if the encoder or the decoder gives another
            shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (5.4), (5.5),
        and Algorithm 1 without its adversarial part.

    Example:
        >>> import torch
        >>> from gencore.models import VADE
        >>> from gencore.nn import MLP, AffineCoupling
        >>> encoder, decoder = MLP(2, (8,), 2), MLP(1, (8,), 2)
        >>> model = VADE(encoder, decoder, AffineCoupling(MLP(1, (8,), 2)), 1)
        >>> model(torch.randn(16, 2)).backward()
        >>> model.sample(4).shape, model.elbo(torch.randn(5, 2)).shape
        (torch.Size([4, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        features: Transform,
        latent_size: int,
        *,
        encoder_input: EncoderInput = "features",
    ) -> None:
        super().__init__()
        check_count("VADE", "latent_size", latent_size, least=1)
        check_choice("VADE", "encoder_input", encoder_input, get_args(EncoderInput))
        self.encoder, self.decoder, self.features = encoder, decoder, features
        self.latent_size = latent_size
        self.encoder_input = encoder_input
        self.log_std = nn.Parameter(torch.zeros(()))  # one log σ: the Gaussian is isotropic

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The coverage loss L_C (5.5) of data [N, ...], a scalar; arguments as for `elbo`."""
        return -self.elbo(x, generator=generator, key=key, first=first).mean()

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
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num]."""
        if key is None:
            key = random_key(generator, device=x.device)
        return self.weigh(x, num, key=key, first=first, first_sample=first_sample).log_weights

    def weigh(
        self,
        x: Tensor,
        num: int,
        *,
        key: Tensor,
        first: int = 0,
        first_sample: int = 0,
        estimator: ElboEstimator = "reparametrised",
    ) -> WeighedLatents:
        """The same latents with their weights, and a choice where gradients by q pass, as in
        :meth:`ImportanceBounds.weigh`."""
        check_count("VADE", "num", num, least=1)
        y, log_det = self.features(x)
        posterior = self._posterior(x, y)
        z, log_q = draw_latents(posterior, num, key, first, first_sample, estimator)
        decoded = self._decoded(z.flatten(0, 1), y[0].shape).unflatten(0, (len(x), num))
        residual = ((y.unsqueeze(1) - decoded) * torch.exp(-self.log_std)).flatten(2)
        log_likelihood = log_normal(residual) - y[0].numel() * self.log_std
        log_weights = log_likelihood + log_normal(z) - log_q + log_det.unsqueeze(1)
        return WeighedLatents(z, log_q, log_weights)

    def encode(self, x: Tensor) -> NormalParameters:
        """q(z | x) of data [N, ...]."""
        if self.encoder_input == "data":
            return self._posterior(x, x)
        return self._posterior(x, self.features(x)[0])

    def decode(self, z: Tensor) -> Tensor:
        """The data f⁻¹(μ(z)) of latents [N, L]."""
        return self.features.inverse(self.decoder(z))[0]

    def sample(
        self,
        num: int,
        *,
        noise: bool = True,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data f⁻¹(μ(z) + σε), differentiable in the weights.

        Args:
            num: number of samples.
            noise: whether there is an ε; the density is that of samples with it.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        return self.features.inverse(self._sampled_features(num, noise, key, first))[0]

    def _sampled_features(self, num: int, noise: bool, key: Tensor, first: int) -> Tensor:
        """The features of samples: μ(z) + σε, or μ(z)."""
        z_key, noise_key = split_key(stream_key(key, "samples"), 2)
        z = normal_starts(self, num, (self.latent_size,), key=z_key, first=first, stream="latents")
        y: Tensor = self.decoder(z)
        if noise:
            epsilon = philox_normal(
                y.shape, noise_key, first_element=first * y[:1].numel(), dtype=y.dtype
            )
            y = y + self.log_std.exp() * epsilon
        return y

    def _posterior(self, x: Tensor, y: Tensor) -> NormalParameters:
        """q(z | x) of data x with the features y."""
        seen = y if self.encoder_input == "features" else x
        return encode_normal("VADE", self.encoder, seen, self.latent_size, self.encoder_input)

    def _decoded(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        decoded: Tensor = self.decoder(z)
        if decoded.shape[1:] != torch.Size(shape):
            raise ValueError(
                f"VADE: the decoder gives {list(decoded.shape)}; expected "
                f"[N, {', '.join(map(str, shape))}], the shape of the features"
            )
        return decoded
