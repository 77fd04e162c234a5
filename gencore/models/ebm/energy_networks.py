"""Energy networks for images: the convolutional nets of Yan 2022, Table 2.4."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.parametrized import spectral_norm as spectrally_normalised

__all__ = ["ConvEnergy", "ConvEnergyName"]

ConvEnergyName = Literal["mnist", "cifar10", "celeba", "digits"]


class _Shape(NamedTuple):
    image_size: int
    channels: int
    widths: tuple[int, ...]


# Yan 2022, Table 2.4 with nf = 32, 64 and 32; the last row is the same design for 8x8 images.
_PRESETS: dict[str, _Shape] = {
    "mnist": _Shape(32, 1, (32, 64, 64, 64)),
    "cifar10": _Shape(32, 3, (64, 128, 256, 512)),
    "celeba": _Shape(64, 3, (32, 64, 128, 256, 512)),
    "digits": _Shape(8, 1, (32, 64, 128)),
}


class ConvEnergy(nn.Sequential):
    """A convolutional energy E(x) with swish activations and no normalisation.

    The first convolution is 3x3 with stride 1, each later one is 4x4 with stride 2 and halves the
    image, all with padding 1 and a swish (SiLU) after them; a linear layer maps the flattened
    features to one number an image. Without normalisation an image's energy does not depend on
    its batch, and with a smooth activation the generator loss has useful second derivatives.

    Args:
        image_size: height and width, divisible by `2 ** (len(widths) - 1)`.
        channels: channels of the image.
        widths: output channels of the convolutions, first to last.
        spectral_norm: divide each weight matrix by its largest singular value (Miyato et al. 2018),
            which bounds the gradients that drive the sampler.

    Shape:
        [N, channels, image_size, image_size] → [N].

    Raises:
        ValueError: if `widths` is empty or the image cannot be halved that often, and on a call
            with images of another shape.

    Example:
        >>> energy = ConvEnergy.preset("digits")
        >>> energy(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3])

    References:
        Yan, *Deep Generative Models: Design, Improvements and Applications*, 2022, Table 2.4.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        widths: Sequence[int],
        *,
        spectral_norm: bool = False,
    ) -> None:
        halvings = len(widths) - 1
        if halvings < 0:
            raise ValueError("ConvEnergy: widths is empty; expected at least one layer's width")
        if image_size < 1 or image_size % 2**halvings:
            raise ValueError(
                f"ConvEnergy: image_size {image_size} cannot be halved {halvings} times (once for "
                f"each of widths {tuple(widths)} after the first); expected a positive multiple of "
                f"{2**halvings}"
            )
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 3, stride=1, padding=1),
            nn.SiLU(),
        ]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=1), nn.SiLU()]
        features = widths[-1] * (image_size >> halvings) ** 2
        layers += [nn.Flatten(), nn.Linear(features, 1), nn.Flatten(0)]
        super().__init__(*layers)
        self.image_shape = (channels, image_size, image_size)
        if spectral_norm:
            for layer in self:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectrally_normalised(layer)

    @classmethod
    def preset(
        cls,
        name: ConvEnergyName,
        *,
        image_size: int | None = None,
        channels: int | None = None,
        spectral_norm: bool = False,
    ) -> "ConvEnergy":
        """The network that Yan 2022 uses for a data set, or "digits" for 8x8 images.

        Args:
            name: "mnist" (32x32, one channel), "cifar10" (32x32, three), "celeba" (64x64, three) or
                "digits" (8x8, one).
            image_size: size of the images, where it differs from the data set's.
            channels: number of their channels, likewise.
            spectral_norm: whether layers have a spectral norm, as for the class.

        Example:
            >>> sum(p.numel() for p in ConvEnergy.preset("mnist").parameters())
            165377
        """
        check_choice("ConvEnergy.preset", "name", name, get_args(ConvEnergyName))
        preset = _PRESETS[name]
        return cls(
            preset.image_size if image_size is None else image_size,
            preset.channels if channels is None else channels,
            preset.widths,
            spectral_norm=spectral_norm,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != torch.Size(self.image_shape):
            raise ValueError(
                f"ConvEnergy: got images of shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.image_shape))}]"
            )
        for layer in self:
            x = layer(x)
        return x

    def extra_repr(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"image_shape={self.image_shape}, parameters={count:,}"
