"""Convolutional encoders and decoders whose features widen as their sides shrink."""

from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.networks.conv_blocks import BlockKind, ResamplingBlock, check_blocks

__all__ = ["ConvDecoder", "ConvEncoder"]


class ConvEncoder(nn.Module):
    """From images to vectors, with ELU between the convolutions.

    "residual": a 3×3 convolution and a block at full size, then a block a further width that halves
    the sides. "plain": a 3×3 convolution a width, and after each but the last a 4×4 one of stride
    2. The last layer is linear and zero at first, so that a posterior that it parametrises starts
    as a standard normal distribution.

    Args:
        image_shape: [C, H, W] of the images, with sides that are multiples of 2^(widths − 1).
        out_features: F.
        widths: channels at each scale, the finest first.
        blocks: "plain" or "residual".
        stem: channels of the first convolution of the residual network.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, table A.1,
        with residual blocks in the place of its IAF blocks.

    Example:
        >>> import torch
        >>> from gencore.nn import ConvEncoder
        >>> ConvEncoder((1, 8, 8), 6, widths=(8, 16))(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        out_features: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: BlockKind = "residual",
        stem: int = 16,
    ) -> None:
        super().__init__()
        height, width = check_blocks(
            "ConvEncoder", image_shape, widths, blocks, out_features=out_features, stem=stem
        )
        self.layers = down_layers(image_shape[0], widths, blocks, stem, nn.ELU)
        self.last = nn.Linear(widths[-1] * height * width, out_features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [N, F] of images [N, C, H, W]."""
        y: Tensor = self.last(self.layers(x).flatten(1))
        return y


class ConvDecoder(nn.Module):
    """From vectors to images: the scales of :class:`ConvEncoder` in the opposite order, with ELU.

    "residual": blocks of the widths from the last to the first, of which all but the last double
    the sides. "plain": 4×4 transposed convolutions of stride 2, as in the generator of spectrally
    normalised GANs, without its batch normalisation. A 3×3 convolution makes the image.

    Args:
        in_features: F.
        image_shape, widths, blocks: as of `ConvEncoder`.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, table A.1 and
        §5.5.2. Miyato et al., "Spectral normalization for generative adversarial networks", 2018,
        table 3.

    Example:
        >>> import torch
        >>> from gencore.nn import ConvDecoder
        >>> ConvDecoder(6, (1, 8, 8), widths=(8, 16))(torch.ones(2, 6)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        in_features: int,
        image_shape: Sequence[int],
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: BlockKind = "residual",
    ) -> None:
        super().__init__()
        self.sides = check_blocks(
            "ConvDecoder", image_shape, widths, blocks, in_features=in_features
        )
        self.first = nn.Linear(in_features, widths[-1] * self.sides[0] * self.sides[1])
        layers: list[nn.Module] = []
        channels = widths[-1]
        if blocks == "residual":
            for number, width in enumerate(reversed(widths)):
                is_last = number == len(widths) - 1
                layers.append(ResamplingBlock(channels, width, "none" if is_last else "up", nn.ELU))
                channels = width
        else:
            for width in reversed(widths[:-1]):
                layers += [nn.ELU(), nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1)]
                channels = width
        self.layers = nn.Sequential(
            *layers, nn.ELU(), nn.Conv2d(channels, image_shape[0], 3, padding=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images [N, C, H, W] of vectors [N, F]."""
        y: Tensor = self.layers(self.first(z).unflatten(1, (-1, *self.sides)))
        return y


def down_layers(
    channels: int,
    widths: Sequence[int],
    blocks: BlockKind,
    stem: int,
    activation: type[nn.Module],
    **options: float,
) -> nn.Sequential:
    """Layers from images to the coarsest features, activated.

    Args:
        channels: of the images.
        widths, blocks, stem: as of `ConvEncoder`.
        activation: class of the activation functions.
        options: of theirs.
    """

    def activate() -> nn.Module:
        return activation(**options)

    layers: list[nn.Module] = []
    if blocks == "residual":
        layers.append(nn.Conv2d(channels, stem, 3, padding=1))
        channels = stem
        for number, width in enumerate(widths):
            layers.append(ResamplingBlock(channels, width, "down" if number else "none", activate))
            channels = width
        return nn.Sequential(*layers, activate())
    for number, width in enumerate(widths):
        layers += [nn.Conv2d(channels, width, 3, padding=1), activate()]
        if number < len(widths) - 1:
            layers += [nn.Conv2d(width, width, 4, stride=2, padding=1), activate()]
        channels = width
    return nn.Sequential(*layers)
