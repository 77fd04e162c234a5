"""VQ-VAE: images as a few codes of a learned book, and a prior of the codes."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod
from gencore.models.autoregressive.levels import check_levels
from gencore.nn.likelihoods import DiscretizedLogistic, PixelLikelihood
from gencore.nn.networks.residual_autoencoder import ResidualDecoder, ResidualEncoder
from gencore.nn.quantization.vector_quantizer import CodeBookUpdate, VectorQuantizer
from gencore.sizes import check_positive, check_whole

__all__ = ["VQVAE", "VQVAELoss"]


class VQVAELoss(NamedTuple):
    """The parts of the objective, an entry an image."""

    loss: Tensor
    """[N]: what is minimised, the quantizer's loss less log p(x | z_q), in nats."""
    log_likelihood: Tensor
    """[N]: log p(x | z_q)."""
    perplexity: Tensor
    """How many codes are in use: see `gencore.nn.Quantized`."""


class VQVAE(nn.Module):
    r"""An autoencoder of images whose latents are an image of codes.

    .. math:: L = -\log p(x \mid z_q) + \lVert \mathrm{sg}[f(x)] - e \rVert^2
              + \beta \lVert f(x) - \mathrm{sg}[e] \rVert^2

    .. math:: \log p(x) \ge \log p(x \mid z_q(x)) + \log p(z(x))

    with the encoder f and the codes z of the nearest vectors e to its outputs. The posterior is a
    single image of codes, so the bound lacks what other codes would add. Under a uniform prior
    log p(z) = −H'W' log K; a model of images of codes that is fitted to them makes it larger.

    Args:
        image_shape: [C, H, W].
        channels: of the hidden layers of encoder and decoder.
        num_codes: K.
        code_dim: D, numbers of a code's vector.
        downsampling: r, a power of two: H' = H/r, W' = W/r.
        num_blocks: residual blocks of the encoder, and of the decoder.
        block_channels: of the layer within a block.
        likelihood: p(x | z_q) of a pixel; by default a logistic with 256 levels.
        update: what the code book follows, its averages or the loss.
        decay: of the averages.
        commitment: β.
        revive_after: batches after which an unused code starts anew.

    Attributes:
        image_shape: as given.
        code_shape: [1, H', W'], the images that a prior has.
        encoder, quantizer, decoder, likelihood: the parts.

    Raises:
        ValueError: for sizes that are not positive, or that the downsampling does not divide.

    References:
        van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", 2017.
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, section
        2.10.5, whose (2.71) has the sign of the likelihood wrong.

    Example:
        >>> import torch
        >>> from gencore.models import VQVAE
        >>> model = VQVAE((1, 8, 8), 16, 32, 4, downsampling=2)
        >>> x = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
        >>> model(x).loss.mean().backward()
        >>> codes = model.eval().encode(x)
        >>> codes.shape, model.decode(codes).shape, model.log_prob_bound(x).shape
        (torch.Size([5, 4, 4]), torch.Size([5, 1, 8, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 128,
        num_codes: int = 128,
        code_dim: int = 64,
        *,
        downsampling: int = 4,
        num_blocks: int = 2,
        block_channels: int = 32,
        likelihood: PixelLikelihood | None = None,
        update: CodeBookUpdate = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        revive_after: int | None = 100,
    ) -> None:
        super().__init__()
        check_whole(
            "VQVAE",
            image_shape=tuple(image_shape), downsampling=downsampling, num_blocks=num_blocks,
        )  # fmt: skip
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"VQVAE: image_shape is {image_shape}; expected [C, H, W]")
        check_positive("VQVAE", channels=channels, block_channels=block_channels)
        image_channels, height, width = image_shape
        if downsampling < 1 or height % downsampling or width % downsampling:
            raise ValueError(
                f"VQVAE: downsampling is {downsampling}; expected a divisor of the sides "
                f"{height} and {width}"
            )
        self.image_shape = (image_channels, height, width)
        self.code_shape = (1, height // downsampling, width // downsampling)
        self.likelihood = DiscretizedLogistic(256) if likelihood is None else likelihood
        self.encoder = ResidualEncoder(
            image_channels, channels, code_dim,
            downsampling=downsampling, num_blocks=num_blocks, block_channels=block_channels,
        )  # fmt: skip
        self.quantizer = VectorQuantizer(
            num_codes, code_dim,
            update=update, decay=decay, commitment=commitment, revive_after=revive_after,
        )  # fmt: skip
        self.decoder = ResidualDecoder(
            code_dim, channels, self.likelihood.num_parameters(image_channels),
            upsampling=downsampling, num_blocks=num_blocks, block_channels=block_channels,
        )  # fmt: skip

    @property
    def num_codes(self) -> int:
        """K."""
        return self.quantizer.num_codes

    def forward(
        self, x: Tensor, *, key: Tensor | None = None, generator: Generator | None = None
    ) -> VQVAELoss:
        """The objective; in training mode the code book learns.

        Args:
            x: levels [N, C, H, W], uint8 or int64.
            key: int64 [seed, offset] of the vectors that dead codes become.
            generator: draws the key where none is given.
        """
        z = self.quantizer(self.features(x), key=key, generator=generator)
        log_likelihood = self._log_likelihood(x, z.values)
        return VQVAELoss(z.loss - log_likelihood, log_likelihood, z.perplexity)

    def features(self, x: Tensor) -> Tensor:
        """The encoder's vectors f(x) [N, D, H', W'] of levels [N, C, H, W].

        Raises:
            TypeError: for x of another dtype than uint8 or int64.
            ValueError: for x of another shape, or with levels that there are none of.
        """
        check_levels("VQVAE", x, self.image_shape, self.likelihood.levels)
        dtype = self.quantizer.code_book.dtype
        features: Tensor = self.encoder(x.to(dtype) * (2 / (self.likelihood.levels - 1)) - 1)
        return features

    def encode(self, x: Tensor) -> Tensor:
        """The codes, int64 [N, H', W'], of levels [N, C, H, W]; raises as `features` does."""
        return self.quantizer.encode(self.features(x))

    def decode(self, codes: Tensor) -> Tensor:
        """The expected levels, float [N, C, H, W], of codes [N, H', W']."""
        parameters = self.decoder(self._embedded(codes))
        return self.likelihood.mean(parameters, self.image_shape[0])

    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected levels, float [N, C, H, W], given the codes of x."""
        return self.decode(self.encode(x))

    def log_prob_bound(self, x: Tensor, prior: AutoregressiveImageModel | None = None) -> Tensor:
        """log p(x | z_q) + log p(z) [N] in nats, a lower bound of log p(x).

        Args:
            x: levels [N, C, H, W].
            prior: of the codes; uniform without one.

        Raises:
            ValueError: for a prior of other images or levels.
        """
        codes = self.encode(x)
        log_likelihood = self._log_likelihood(x, self.quantizer.decode(codes))
        return log_likelihood + self.log_prior(codes, prior)

    def log_prior(self, codes: Tensor, prior: AutoregressiveImageModel | None = None) -> Tensor:
        """log p(z) [N] in nats, of codes [N, H', W'] under a prior or a uniform one."""
        if prior is None:
            value = -math.prod(self.code_shape) * math.log(self.num_codes)
            return self.quantizer.code_book.new_full((len(codes),), value)
        self.check_prior(prior)
        return prior.log_prob(codes.unsqueeze(1))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        prior: AutoregressiveImageModel | None = None,
        *,
        noise: bool = False,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> Tensor:
        """Images of codes that are drawn from the prior, int64 [N, C, H, W].

        Args:
            num: images N.
            prior: of the codes; uniform without one.
            noise: draw the pixels as well. Otherwise they have their expected levels, rounded.
            method: of a prior's `sample`.
            generator: on the model's device.

        Raises:
            ValueError: for a prior of other images or levels.
        """
        codes = self.sample_codes(num, prior, method=method, generator=generator)
        if not noise:
            return self.decode(codes).round().to(torch.int64)
        parameters = self.decoder(self._embedded(codes))
        channels, height, width = self.image_shape
        size = (num, self.likelihood.num_uniforms(channels), height, width)
        uniforms = torch.rand(size, generator=generator, device=codes.device)
        x = codes.new_zeros(num, *self.image_shape)
        for channel in range(channels):
            x[:, channel] = self.likelihood.draw(parameters, uniforms, channel, x)
        return x

    @torch.no_grad()
    def sample_codes(
        self,
        num: int,
        prior: AutoregressiveImageModel | None = None,
        *,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> Tensor:
        """Codes, int64 [N, H', W'], drawn from the prior; arguments as of `sample`."""
        if prior is not None:
            self.check_prior(prior)
            return prior.sample(num, method=method, generator=generator).squeeze(1)
        return torch.randint(
            self.num_codes, (num, *self.code_shape[1:]),
            generator=generator, device=self.quantizer.code_book.device,
        )  # fmt: skip

    def _embedded(self, codes: Tensor) -> Tensor:
        if codes.dim() != 3 or codes.shape[1:] != self.code_shape[1:]:
            raise ValueError(
                f"VQVAE: codes has shape {list(codes.shape)}; expected "
                f"{['N', *self.code_shape[1:]]}"
            )
        return self.quantizer.decode(codes)

    def _log_likelihood(self, x: Tensor, values: Tensor) -> Tensor:
        return self.likelihood.log_prob(self.decoder(values), x).flatten(1).sum(1)

    def check_prior(self, prior: AutoregressiveImageModel) -> None:
        """Raise a ValueError unless the prior is one of these codes."""
        levels = prior.likelihood.levels
        if prior.image_shape != self.code_shape or levels != self.num_codes:
            raise ValueError(
                f"VQVAE: the prior has images {list(prior.image_shape)} of {levels} levels; "
                f"expected {list(self.code_shape)} of {self.num_codes}"
            )
