"""LAPGAN: one conditional GAN at each level of a Laplacian pyramid (Denton et al. 2015)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.noise_generator import NoiseGenerator
from gencore.nn.stop_gradient import stop_gradient
from gencore.objectives import AdversarialGame, LogisticGame
from gencore.objectives.laplacian import enlarge, gaussian_pyramid
from gencore.sizes import check_positive

__all__ = ["LaplacianGAN"]


class _Level(NamedTuple):
    """What the networks of a level are trained with."""

    number: int
    """From 0, the coarsest."""
    rough: Tensor | None
    """The enlarged coarser image; none at the coarsest level."""
    image: Tensor
    """The data at this level."""


class LaplacianGAN(NoiseGenerator):
    r"""Images drawn from coarse to fine: a small image, and the bands that sharpen it.

    .. math:: \tilde x_K = G_K(z_K), \qquad
              \tilde x_k = \mathrm{up}\, \tilde x_{k + 1} +
              G_k(z_k, \mathrm{up}\, \tilde x_{k + 1}), \quad k = K - 1, \dots, 0

    The levels are trained apart, each on the pyramid of the data: G_k is given the enlarged coarser
    image l of a data point, and its discriminator D_k is to tell l + G_k(z, l) from l + b, where b
    is the true band, so that l + b is the data point at that level. The noise of a refining
    generator is one more plane beside the channels of l.

    Args:
        coarsest: G_K, latents [N, L] → images [N, C, h, w].
        refiners: G_{K−1}, …, G_0, from coarse to fine, each [N, C + 1, H, W] → [N, C, H, W], bands
            of twice the sides of the last.
        discriminators: D_K, …, D_0, images of the level [N, C, H, W] → scores of any shape.
        latent_size: L.
        coarse_shape: [C, h, w].
        game: the losses of both players; by default the logistic one, with the generator's loss
            that does not saturate.

    Attributes:
        noise_sizes: the numbers of noise of each level, L and H_k·W_k, from the coarsest.
        noise_size: U, their sum.

    Raises:
        ValueError: for sizes that are not positive or other numbers of discriminators than of
            generators; on a call, for images, or what a generator gives, of another shape.

    References:
        Denton, Chintala, Szlam and Fergus, "Deep generative image models using a Laplacian pyramid
        of adversarial networks", 2015, (3) to (5) and figures 1 and 2. Bruna, "Inference and
        Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.models import LaplacianGAN
        >>> from gencore.nn import DCGANDiscriminator, DCGANGenerator, NotatedNetwork
        >>> gan = LaplacianGAN(
        ...     DCGANGenerator(10, (1, 8, 8), width=8),
        ...     [NotatedNetwork("2 -convp5,ReLU-> 16 -convp5-> 1")],
        ...     [DCGANDiscriminator((1, side, side), width=8) for side in (8, 16)],
        ...     latent_size=10,
        ...     coarse_shape=(1, 8, 8),
        ... )
        >>> x = torch.rand(4, 1, 16, 16)
        >>> gan.discriminator_loss(x).backward()
        >>> gan(x).backward()
        >>> gan.sample(3).shape
        torch.Size([3, 1, 16, 16])
    """

    def __init__(
        self,
        coarsest: nn.Module,
        refiners: Sequence[nn.Module],
        discriminators: Sequence[nn.Module],
        *,
        latent_size: int,
        coarse_shape: Sequence[int],
        game: AdversarialGame | None = None,
    ) -> None:
        super().__init__()
        check_positive("LaplacianGAN", latent_size=latent_size)
        if len(coarse_shape) != 3 or min(coarse_shape) < 1:
            raise ValueError(
                f"LaplacianGAN: coarse_shape is {tuple(coarse_shape)}; expected [C, h, w]"
            )
        if len(discriminators) != len(refiners) + 1:
            raise ValueError(
                f"LaplacianGAN: got {len(discriminators)} discriminators and {1 + len(refiners)} "
                "generators; expected as many"
            )
        self.generators = nn.ModuleList([coarsest, *refiners])
        self.discriminators = nn.ModuleList(discriminators)
        self.game = LogisticGame() if game is None else game
        self.latent_size = latent_size
        channels, height, width = coarse_shape
        self.shapes = [
            (channels, height << level, width << level) for level in range(len(self.generators))
        ]
        planes = [height * width for _, height, width in self.shapes[1:]]
        self.noise_sizes = [latent_size, *planes]
        self.noise_size = sum(self.noise_sizes)

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The generators' loss of data [N, C, H, W], summed over levels: a scalar.

        It has no gradient in the discriminators. The noise is that of `sample`.
        """
        terms = [
            self.game.generator_loss(stop_gradient(self.discriminators[level.number])(fake))
            for level, fake in self._fakes(x, self._noise(x, generator, key, first))
        ]
        return torch.stack(terms).sum()

    def discriminator_loss(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The discriminators' loss of data, summed over levels: a scalar.

        It has no gradient in the generators. The noise is that of `sample`.
        """
        with torch.no_grad():
            fakes = list(self._fakes(x, self._noise(x, generator, key, first)))
        terms = []
        for level, fake in fakes:
            discriminator = self.discriminators[level.number]
            terms.append(
                self.game.discriminator_loss(discriminator(level.image), discriminator(fake))
            )
        return torch.stack(terms).sum()

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The images of noise [N, U]."""
        return self.decode_levels(noise)[-1]

    def decode_levels(self, noise: Tensor) -> list[Tensor]:
        """The images at every level of noise [N, U], from the coarsest."""
        images: list[Tensor] = []
        for level, z in enumerate(noise.split(self.noise_sizes, 1)):
            rough = enlarge(images[-1]) if images else None
            images.append(self._draw(level, z, rough))
        return images

    def _noise(
        self, x: Tensor, generator: Generator | None, key: Tensor | None, first: int
    ) -> Tensor:
        return self.sample_noise(len(x), generator=generator, key=key, first=first)

    def _draw(self, level: int, z: Tensor, rough: Tensor | None) -> Tensor:
        """The image of a level that is made of noise and of the enlarged image of the last."""
        image = draw_level(self.generators[level], z, rough)
        expected = [len(z), *self.shapes[level]]
        if list(image.shape) != expected:
            raise ValueError(
                f"LaplacianGAN: generator {level} gives {list(image.shape)}; expected {expected}"
            )
        return image

    def _fakes(self, x: Tensor, noise: Tensor) -> Iterator[tuple[_Level, Tensor]]:
        """Each level of data, and an image drawn from the data's next coarser level."""
        parts = noise.split(self.noise_sizes, 1)
        for level, z in zip(self._levels(x), parts, strict=True):
            yield level, self._draw(level.number, z, level.rough)

    def _levels(self, x: Tensor) -> Iterator[_Level]:
        if tuple(x.shape[1:]) != self.shapes[-1]:
            raise ValueError(
                f"LaplacianGAN: images have shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.shapes[-1]))}]"
            )
        rough = None
        images = gaussian_pyramid(x, len(self.shapes) - 1)
        for number, image in enumerate(reversed(images)):
            yield _Level(number, rough, image)
            rough = enlarge(image)


def draw_level(generator: nn.Module, z: Tensor, rough: Tensor | None = None) -> Tensor:
    """The images [N, C, H, W] of a level, made of noise and of the enlarged images of the last.

    Args:
        generator: one of those of `LaplacianGAN`.
        z: noise: latents [N, L] at the coarsest level, else a plane [N, H·W].
        rough: the enlarged images [N, C, H, W]; none at the coarsest level.

    Raises:
        ValueError: for bands of another shape than the images'.
    """
    if rough is None:
        image: Tensor = generator(z)
        return image
    plane = z.unflatten(1, (1, *rough.shape[2:]))
    band: Tensor = generator(torch.cat([rough, plane], 1))
    if band.shape != rough.shape:
        raise ValueError(
            f"LaplacianGAN: a generator of bands gives {list(band.shape)}; expected "
            f"{list(rough.shape)}"
        )
    return rough + band
