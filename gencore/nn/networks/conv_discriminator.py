"""Convolutional discriminators: one logit an image."""

from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.networks.conv_autoencoder import down_layers
from gencore.nn.networks.conv_blocks import BlockKind, check_blocks

__all__ = ["ConvDiscriminator"]


class ConvDiscriminator(nn.Module):
    """One logit an image, of how real it looks.

    "residual" is the discriminator of table A.1: a 3×3 convolution and a block at full size, a
    block a further width that halves the sides, means over positions, a linear layer; with ReLU.
    "plain" is that of spectrally normalised GANs, without the normalisation: 3×3 convolutions, a
    4×4 one of stride 2 after each but the last, a linear layer; with leaky ReLU of slope 0.2.
    Neither normalises over the batch, which a gradient penalty would not allow.

    Args:
        image_shape: [C, H, W] of the images, with sides that are multiples of 2^(widths − 1).
        widths: channels at each scale, the finest first.
        blocks: "plain" or "residual".
        stem: channels of the first convolution of the residual network.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, table A.1.
        Miyato et al., "Spectral normalization for generative adversarial networks", 2018, table 3.

    Example:
        >>> import torch
        >>> from gencore.nn import ConvDiscriminator
        >>> ConvDiscriminator((3, 16, 16), widths=(8, 16, 32))(torch.ones(2, 3, 16, 16)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: BlockKind = "residual",
        stem: int = 16,
    ) -> None:
        super().__init__()
        height, width = check_blocks("ConvDiscriminator", image_shape, widths, blocks, stem=stem)
        channels = image_shape[0]
        if blocks == "residual":
            self.layers = down_layers(channels, widths, blocks, stem, nn.ReLU)
            self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
            self.last = nn.Linear(widths[-1], 1)
        else:
            self.layers = down_layers(
                channels, widths, blocks, stem, nn.LeakyReLU, negative_slope=0.2
            )
            self.pool = nn.Identity()
            self.last = nn.Linear(widths[-1] * height * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N] of images [N, C, H, W]."""
        logits: Tensor = self.last(self.pool(self.layers(x)).flatten(1))
        return logits.squeeze(1)
