"""Discriminators of patches at several scales of an image (Wang et al. 2018)."""

from typing import NamedTuple

from torch import Tensor, nn

from gencore.models.video.pyramid import image_pyramid
from gencore.nn.networks.image_normalization import ImageNormalization
from gencore.nn.networks.patch_discriminator import PatchDiscriminator
from gencore.sizes import check_positive

__all__ = ["MultiScalePatchDiscriminator", "PatchScores"]


class PatchScores(NamedTuple):
    """What one discriminator says of images."""

    logits: Tensor
    """Of the patches, [N, 1, h, w]."""
    features: list[Tensor]
    """Of its layers, from the finest."""


class MultiScalePatchDiscriminator(nn.Module):
    """K discriminators of patches, of the image and of its halves: the coarsest sees the most.

    All have the same layers and weights of their own. An image of a coarser scale has means of 2×2
    pixels, where the authors' program has means over 3×3 at every second pixel. The game's losses
    are summed over the discriminators.

    Args:
        in_channels: of the images.
        num_discriminators: K; 3 in the source, and with one this is the discriminator of pix2pix.
        num_scales, width, normalization: as of :class:`gencore.nn.PatchDiscriminator`.

    Shape:
        [N, C, H, W], with sides that are multiples of 2^(K − 1) → K :class:`PatchScores`.

    Raises:
        ValueError: for sizes that are not positive or another normalisation; on a call, for sides
            that cannot be halved so often.

    References:
        Wang, Liu, Zhu, Tao, Kautz and Catanzaro, "High-resolution image synthesis and semantic
        manipulation with conditional GANs", 2018, §3.2.

    Example:
        >>> import torch
        >>> from gencore.models import MultiScalePatchDiscriminator
        >>> discriminator = MultiScalePatchDiscriminator(3, num_discriminators=2, width=4)
        >>> [tuple(scores.logits.shape) for scores in discriminator(torch.zeros(2, 3, 64, 64))]
        [(2, 1, 2, 2), (2, 1, 6, 6)]
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_discriminators: int = 3,
        num_scales: int = 3,
        width: int = 64,
        normalization: ImageNormalization = "batch",
    ) -> None:
        super().__init__()
        check_positive("MultiScalePatchDiscriminator", num_discriminators=num_discriminators)
        self.discriminators = nn.ModuleList(
            PatchDiscriminator(
                in_channels, num_scales=num_scales, width=width, normalization=normalization
            )
            for _ in range(num_discriminators)
        )

    def forward(self, x: Tensor) -> list[PatchScores]:
        """Logits and features at each scale, the coarsest first."""
        scores = []
        images = image_pyramid(x, len(self.discriminators))
        for discriminator, image in zip(self.discriminators, images, strict=True):
            assert isinstance(discriminator, PatchDiscriminator)
            features = discriminator.features(image)
            scores.append(PatchScores(discriminator.last(features[-1]), features))
        return scores
