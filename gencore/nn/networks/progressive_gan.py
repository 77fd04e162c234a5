"""The networks of progressive growing: each level doubles the sides and is faded in."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.nn.block_pyramid import block_expand, block_mean
from gencore.nn.parametrized import equalized
from gencore.nn.pixel_norm import PixelNorm
from gencore.ops._support.checks import index, number
from gencore.sizes import check_positive, check_whole

__all__ = ["ProgressiveDiscriminator", "ProgressiveGenerator"]


class ProgressiveGenerator(nn.Module):
    r"""From latents to images of any level: level ℓ has 2^ℓ times the sides of level 0.

    With the features h_ℓ of level ℓ, up, which doubles the sides by repetition, and rgb_ℓ, a 1×1
    convolution to pixels,

    .. math:: h_\ell = g_\ell(\mathrm{up}\, h_{\ell - 1}), \qquad
              x = (1 - \alpha)\, \mathrm{up}\, \mathrm{rgb}_{\ell - 1}(h_{\ell - 1}) +
              \alpha\, \mathrm{rgb}_\ell(h_\ell)

    At α = 0 that is the smaller network's image in twice the size, bit for bit, and at α = 1 the
    grown network's, which has forgotten rgb of the smaller one. Training starts at level 0, and
    takes α from 0 to 1 whenever it goes on to the next: :class:`GrowthSchedule`.

    Each g_ℓ is two 3×3 convolutions with leaky ReLU of slope 0.2 and pixel normalisation; that of
    level 0 a linear layer and one convolution. Latents are normalised as pixels are. Weights have
    equalised learning rates. Pixels are not bounded.

    Args:
        latent_size: L.
        coarse_shape: [C, h, w] of the images of level 0, (3, 4, 4) in the source.
        widths: channels of the features at each level, the coarsest first; 512, 512, 512, 512,
            256, 128, 64, 32, 16 in the source, for 4×4 to 1024×1024.

    Shape:
        [N, L] → [N, C, 2^ℓ h, 2^ℓ w].

    Raises:
        ValueError: for sizes that do not fit; on a call, for latents of another shape, a level that
            there is not, an α outside [0, 1], or one below 1 at level 0.

    References:
        Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs for improved quality,
        stability, and variation", 2018, figure 2, §4 and table 2.

    Example:
        >>> import torch
        >>> from gencore.nn import ProgressiveGenerator
        >>> generator = ProgressiveGenerator(16, (3, 4, 4), (8, 8, 4))
        >>> z = torch.randn(2, 16)
        >>> generator(z).shape, generator(z, level=1, alpha=0.3).shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(
        self, latent_size: int, coarse_shape: Sequence[int], widths: Sequence[int]
    ) -> None:
        super().__init__()
        owner = "ProgressiveGenerator"
        check_positive(owner, latent_size=latent_size)
        _check_sizes(owner, coarse_shape, widths)
        channels, *self.coarse_sides = coarse_shape
        self.latent_size = latent_size
        # The gain of the source, √2/4: of one for each of the 4×4 pixels.
        first = nn.Linear(latent_size, widths[0] * math.prod(self.coarse_sides))
        self.norm = PixelNorm()
        self.first = equalized(first, gain=2**0.5 / 4)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            layers = _convolution(width, width, normalized=True)
            if level:
                layers = [*_convolution(widths[level - 1], width, normalized=True), *layers]
            self.levels.append(nn.Sequential(*layers))
        self.rgbs = nn.ModuleList(
            equalized(nn.Conv2d(width, channels, 1), gain=1.0) for width in widths
        )

    def forward(self, z: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """The images of latents.

        Args:
            z: latents.
            level: ℓ; the last one if not given.
            alpha: α, what the images have of level ℓ.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_size:
            raise ValueError(
                f"ProgressiveGenerator: latents have shape {list(z.shape)}; expected "
                f"[N, {self.latent_size}]"
            )
        level = _check_growth("ProgressiveGenerator", level, alpha, len(self.levels))
        h = self.first(self.norm(z)).unflatten(1, (-1, *self.coarse_sides))
        h = self.levels[0](self.norm(nn.functional.leaky_relu(h, 0.2)))
        smaller = h
        for network in self.levels[1 : level + 1]:
            smaller, h = h, network(block_expand(h, 2))
        x: Tensor = self.rgbs[level](h)
        if alpha == 1:
            return x
        return torch.lerp(block_expand(self.rgbs[level - 1](smaller), 2), x, alpha)


class ProgressiveDiscriminator(nn.Module):
    r"""One logit an image of any level, :class:`ProgressiveGenerator` reversed.

    .. math:: h_{\ell - 1} = (1 - \alpha)\, \mathrm{from}_{\ell - 1}(\mathrm{down}\, x) +
              \alpha\, \mathrm{down}\, d_\ell(\mathrm{from}_\ell(x))

    Where down takes means of 2×2 pixels and from_ℓ is a 1×1 convolution from pixels with leaky
    ReLU. At α = 0 that is the smaller network's logit of the halved image, bit for bit. Each d_ℓ is
    two 3×3 convolutions; at level 0 there are one convolution and two linear layers.

    Args:
        coarse_shape, widths: as of `ProgressiveGenerator`.
        batch_statistics: a module between the last halving and the convolution of level 0, that
            adds channels with what can be told of the batch alone, [N, C, h, w] → [N, C + c, h, w].
            The source's is the standard deviation over the batch, taken as one set:
            ``nn.Sequential(nn.Unflatten(0, (1, -1)), MinibatchStdDev(), nn.Flatten(0, 1))``.

    Shape:
        [N, C, 2^ℓ h, 2^ℓ w] → [N].

    Raises:
        ValueError: as `ProgressiveGenerator`, and on a call for images that are not of the level.

    References:
        As for `ProgressiveGenerator`.

    Example:
        >>> import torch
        >>> from gencore.nn import ProgressiveDiscriminator
        >>> discriminator = ProgressiveDiscriminator((3, 4, 4), (8, 8, 4))
        >>> discriminator(torch.zeros(2, 3, 8, 8), level=1, alpha=0.3).shape
        torch.Size([2])
    """

    def __init__(
        self,
        coarse_shape: Sequence[int],
        widths: Sequence[int],
        *,
        batch_statistics: nn.Module | None = None,
    ) -> None:
        super().__init__()
        _check_sizes("ProgressiveDiscriminator", coarse_shape, widths)
        self.coarse_shape = tuple(coarse_shape)
        channels, height, width = self.coarse_shape
        self.levels = nn.ModuleList([nn.Identity()])
        for coarser, finer in itertools.pairwise(widths):
            self.levels.append(
                nn.Sequential(*_convolution(finer, finer), *_convolution(finer, coarser))
            )
        self.from_rgbs = nn.ModuleList(
            nn.Sequential(equalized(nn.Conv2d(channels, features, 1)), nn.LeakyReLU(0.2))
            for features in widths
        )
        self.batch_statistics = nn.Identity() if batch_statistics is None else batch_statistics
        coarsest = widths[0]
        features = torch.zeros(4, coarsest, height, width)
        with torch.no_grad():
            seen = self.batch_statistics(features).shape
        if seen[:1] != features.shape[:1] or seen[2:] != features.shape[2:]:
            raise ValueError(
                f"ProgressiveDiscriminator: batch_statistics gives {list(seen)} of "
                f"{list(features.shape)}; expected more channels alone"
            )
        self.last = nn.Sequential(
            *_convolution(seen[1], coarsest),
            nn.Flatten(),
            equalized(nn.Linear(coarsest * height * width, coarsest)),
            nn.LeakyReLU(0.2),
            equalized(nn.Linear(coarsest, 1), gain=1.0),
        )

    def forward(self, x: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """Logits of images.

        Args:
            x: images of the level.
            level: ℓ; the last one if not given.
            alpha: α, what the logits have of level ℓ.
        """
        level = _check_growth("ProgressiveDiscriminator", level, alpha, len(self.levels))
        self._check(x, level)
        h = self.from_rgbs[level](x)
        for place in range(level, 0, -1):
            h = block_mean(self.levels[place](h), 2)
            if place == level and alpha < 1:
                h = torch.lerp(self.from_rgbs[level - 1](block_mean(x, 2)), h, alpha)
        logits: Tensor = self.last(self.batch_statistics(h))
        return logits.squeeze(1)

    def scale_images(self, x: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """Data of the last level as the level sees them: halved, and faded in as samples are.

        (1 − α) up down x_ℓ + α x_ℓ, of the images x_ℓ that x becomes by halving.

        Args:
            x: images of the last level.
            level, alpha: as of `forward`.
        """
        level = _check_growth("ProgressiveDiscriminator", level, alpha, len(self.levels))
        self._check(x, len(self.levels) - 1)
        x = block_mean(x, 2 ** (len(self.levels) - 1 - level))
        return x if alpha == 1 else torch.lerp(block_expand(block_mean(x, 2), 2), x, alpha)

    def _check(self, x: Tensor, level: int) -> None:
        channels, *sides = self.coarse_shape
        shape = (channels, *(side << level for side in sides))
        if tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"ProgressiveDiscriminator: images have shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, shape))}] at level {level}"
            )


def _convolution(inputs: int, outputs: int, *, normalized: bool = False) -> list[nn.Module]:
    """A 3×3 convolution that keeps the sides, leaky ReLU and, if told, pixel normalisation."""
    layers = [equalized(nn.Conv2d(inputs, outputs, 3, padding=1)), nn.LeakyReLU(0.2)]
    return [*layers, PixelNorm()] if normalized else layers


def _check_sizes(owner: str, coarse_shape: Sequence[int], widths: Sequence[int]) -> None:
    check_whole(owner, coarse_shape=list(coarse_shape), widths=list(widths))
    if len(coarse_shape) != 3 or min(coarse_shape) < 1:
        raise ValueError(f"{owner}: coarse_shape is {tuple(coarse_shape)}; expected [C, h, w]")
    if not len(widths) or min(widths) < 1:
        raise ValueError(f"{owner}: widths is {tuple(widths)}; expected at least one, positive")


def _check_growth(owner: str, level: int | None, alpha: float, num_levels: int) -> int:
    """The level, which there is, for an α that it can have."""
    level = num_levels - 1 if level is None else index(owner, "level", level)
    if level >= num_levels:
        raise ValueError(f"{owner}: level is {level}; expected one from 0 to {num_levels - 1}")
    if number(owner, "alpha", alpha) > 1 or (alpha < 1 and level == 0):
        raise ValueError(
            f"{owner}: alpha is {alpha} at level {level}; expected a number from 0 to 1, and 1 at "
            "level 0, which nothing comes before"
        )
    return level
