"""A convolutional discriminator of sets of images: one score an image, which sees all of them."""

from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.networks.conv_blocks import check_blocks
from gencore.nn.sets.equivariant_layers import EquivariantConv2d, EquivariantLinear

__all__ = ["EquivariantConvDiscriminator"]


class EquivariantConvDiscriminator(nn.Module):
    """The "plain" :class:`gencore.nn.ConvDiscriminator` with equivariant layers in place of all.

    A 3×3 convolution a width, a 4×4 one of stride 2 after each but the last, and a linear layer;
    with leaky ReLU of slope 0.2. There is no normalisation.

    Args:
        image_shape: [C, H, W] of the images, with sides that are multiples of 2^(widths − 1).
        widths: channels at each scale, the finest first.

    Shape:
        [N, B, C, H, W] → scores [N, B].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.1,
        §4.5.2. Miyato et al., "Spectral normalization for generative adversarial networks", 2018,
        table 3.

    Example:
        >>> import torch
        >>> from gencore.nn import EquivariantConvDiscriminator
        >>> EquivariantConvDiscriminator((1, 8, 8), widths=(4, 8))(torch.ones(2, 5, 1, 8, 8)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self, image_shape: Sequence[int], *, widths: Sequence[int] = (64, 128, 256, 512)
    ) -> None:
        super().__init__()
        name = "EquivariantConvDiscriminator"
        height, width = check_blocks(name, image_shape, widths, "plain")
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for number, features in enumerate(widths):
            if number:
                layers += [
                    EquivariantConv2d(channels, channels, 4, stride=2, padding=1),
                    nn.LeakyReLU(0.2),
                ]
            layers += [EquivariantConv2d(channels, features, 3, padding=1), nn.LeakyReLU(0.2)]
            channels = features
        self.layers = nn.Sequential(*layers)
        self.last = EquivariantLinear(channels * height * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.layers(x).flatten(2))
        return scores.squeeze(2)
