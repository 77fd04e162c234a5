"""A residual energy of images at the levels of a diffusion, without normalisation layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.nn.networks.time_embedding import TimeEmbedding
from gencore.nn.parametrized import spectral_bound
from gencore.nn.parametrized import spectral_norm as spectrally_normalised
from gencore.ops._support.checks import index
from gencore.sizes import check_positive

__all__ = ["ResNetEnergy", "ResNetEnergyName"]

ResNetEnergyName = Literal["digits", "mnist", "gao2021-32", "gao2021-64", "gao2021-128"]


class _Shape(NamedTuple):
    image: tuple[int, int, int]
    width: int
    multipliers: tuple[int, ...]
    num_blocks: int


# Those of Gao et al. 2021 are the released ones, with the most blocks that a data set of that size
# has there; the first two are the same design, for training on a CPU.
_PRESETS: dict[str, _Shape] = {
    "digits": _Shape((1, 8, 8), 16, (1, 2, 4), 1),
    "mnist": _Shape((1, 28, 28), 16, (1, 2, 2), 1),
    "gao2021-32": _Shape((3, 32, 32), 128, (1, 2, 2, 2), 8),
    "gao2021-64": _Shape((3, 64, 64), 128, (1, 2, 2, 2, 4), 6),
    "gao2021-128": _Shape((3, 128, 128), 128, (1, 2, 2, 2, 4, 4), 5),
}
_SLOPE = 0.2  # of the leaky ReLU
_SMALL = 1e-5  # gain of weights that start near 0, since no power iteration goes on from 0


class ResNetEnergy(nn.Module):
    r"""The energy E(y, t) of images y at level t: a residual network, summed over places.

    .. math:: E(y, t) = \Big\langle \sum_{ij} \operatorname{relu}(h(y, e))_{ij},\; W e \Big\rangle

    The level's embedding e, from a perceptron on :class:`TimeEmbedding`, is added within each block
    and weighs the channels at the end. Each of the L resolutions has `num_blocks` blocks; a mean
    over 2x2 places leads from one to the next. A block is x + g·conv(lrelu(conv(lrelu(x)) + V e))
    with a gain g for each channel; its last convolution starts near 0, so that the block starts as
    x, and where the number of channels changes, a convolution stands for x. All convolutions are
    3x3 with padding 1. Nothing normalises activations, so an image's energy does not depend on its
    batch.

    Args:
        shape: [C, H, W] of the images; H and W can be halved L − 1 times.
        width: channels at the first resolution, and features of the level, even and at least 4.
        multipliers: channels at each of the L resolutions, in widths.
        num_blocks: blocks at each.
        spectral_norm: divide each weight but the last W by its largest singular value (Miyato et
            al. 2018), that of a block's last convolution only where it is above 1, which bounds
            the gradients that drive the chains.

    Shape:
        [N, C, H, W], int64 [N] → [N].

    Raises:
        ValueError: for sizes that are not positive or images that cannot be halved that often, and
            on a call with images or levels of another shape.

    Example:
        >>> energy = ResNetEnergy.preset("digits")
        >>> energy(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 5])).shape
        torch.Size([3])

    References:
        Gao, Song, Poole, Wu and Kingma, "Learning energy-based models by diffusion recovery
        likelihood", 2021, appendix B, and their released program.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        num_blocks: int = 2,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        sizes = [index("ResNetEnergy", "a size of shape", size) for size in shape]
        if len(sizes) != 3:
            raise ValueError(f"ResNetEnergy: shape is {tuple(sizes)}; expected [C, H, W]")
        channels, height, width_of_images = sizes
        check_positive("ResNetEnergy", channels=channels, width=width, num_blocks=num_blocks)
        if not multipliers or min(multipliers) < 1:
            raise ValueError(
                f"ResNetEnergy: multipliers are {tuple(multipliers)}; expected a positive one for "
                "each resolution"
            )
        factor = 2 ** (len(multipliers) - 1)
        if min(sizes) < 1 or height % factor or width_of_images % factor:
            raise ValueError(
                f"ResNetEnergy: images of {height}x{width_of_images} cannot be halved "
                f"{len(multipliers) - 1} times (once for each of multipliers {tuple(multipliers)} "
                f"after the first); expected positive multiples of {factor}"
            )
        self.shape = (channels, height, width_of_images)
        widths = [width * multiplier for multiplier in multipliers]
        features = 4 * width
        self.time = nn.Sequential(
            TimeEmbedding(width), nn.Linear(width, features), nn.LeakyReLU(_SLOPE),
            nn.Linear(features, features), nn.LeakyReLU(_SLOPE),
        )  # fmt: skip
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.resolutions = nn.ModuleList(
            nn.ModuleList(
                _Block(before if number == 0 else after, after, features)
                for number in range(num_blocks)
            )
            for before, after in pairwise([width, *widths])
        )
        self.weigh = nn.Linear(features, widths[-1])
        lasts = {module.second for module in self.modules() if isinstance(module, _Block)}
        for layer in list(self.modules()):  # a spectral norm adds some
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=_SMALL if layer in lasts else 1.0)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
                if spectral_norm and layer in lasts:
                    spectral_bound(layer)
                elif spectral_norm and layer is not self.weigh:
                    spectrally_normalised(layer)

    @classmethod
    def preset(
        cls,
        name: ResNetEnergyName,
        *,
        shape: Sequence[int] | None = None,
        num_blocks: int | None = None,
        spectral_norm: bool = True,
    ) -> "ResNetEnergy":
        """A network by the images that it was chosen for.

        Args:
            name: "gao2021-32", "gao2021-64" or "gao2021-128", the released ones for colour images
                of that size; "digits" (8x8) and "mnist" (28x28), small ones for grey images.
            shape: [C, H, W] of the images, where it differs.
            num_blocks: blocks at each resolution, where it differs: Gao et al. have 8 for CIFAR-10,
                6 for CelebA, 5 for the bedrooms of 128x128 and 2 for the other LSUN images.
            spectral_norm: as for the class.

        Raises:
            ValueError: for another name, and as the class.

        Example:
            >>> sum(p.numel() for p in ResNetEnergy.preset("digits").parameters())
            114048
        """
        check_choice("ResNetEnergy.preset", "name", name, get_args(ResNetEnergyName))
        preset = _PRESETS[name]
        return cls(
            preset.image if shape is None else shape,
            width=preset.width,
            multipliers=preset.multipliers,
            num_blocks=preset.num_blocks if num_blocks is None else num_blocks,
            spectral_norm=spectral_norm,
        )

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        if y.shape[1:] != torch.Size(self.shape) or t.shape != y.shape[:1]:
            raise ValueError(
                f"ResNetEnergy: got images of shape {list(y.shape)} and levels of shape "
                f"{list(t.shape)}; expected [N, {', '.join(map(str, self.shape))}] and [N]"
            )
        embed, *layers = self.time
        level = embed(t).to(y.dtype)
        for layer in layers:
            level = layer(level)
        h = self.first(y)
        for number, blocks in enumerate(self.resolutions):
            if number:
                h = functional.avg_pool2d(h, 2)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h = block(h, level)
        energy: Tensor = (functional.relu(h).sum((2, 3)) * self.weigh(level)).sum(1)
        return energy

    def extra_repr(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"shape={self.shape}, parameters={count:,}"


class _Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, level_features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.level = nn.Linear(level_features, out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(out_channels))
        self.shortcut: nn.Module = nn.Identity()
        if channels != out_channels:
            self.shortcut = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.first(functional.leaky_relu(x, _SLOPE)) + self.level(level)[:, :, None, None]
        h = self.second(functional.leaky_relu(h, _SLOPE))
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.gain[:, None, None] * h
