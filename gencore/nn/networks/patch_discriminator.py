"""The discriminator of patches (Isola et al. 2017)."""

from typing import get_args

from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.networks.image_normalization import ImageNormalization, normalization_layers
from gencore.nn.networks.small_start import start_small
from gencore.sizes import check_positive

__all__ = ["PatchDiscriminator"]

_MAX_FACTOR = 8


class PatchDiscriminator(nn.Module):
    """Logits of the overlapping patches of an image, of how real each looks.

    S convolutions of stride 2 and two of stride 1, all 4×4; leaky ReLU of slope 0.2 follows each
    but the last, and normalisation each but the first and the last. Channels double from `width`
    to eight times as many. A logit sees a patch of 16, 34, 70, 142 pixels a side for S = 1, 2, 3,
    4; 70 are the source's choice. To judge an image given another one, let it see the channels of
    both.

    Args:
        in_channels: of the images.
        num_scales: S.
        width: channels of the first convolution.
        normalization: "batch", "instance" or "none".

    Attributes:
        patch_size: pixels of the side of a patch.

    Shape:
        [N, C, H, W] → [N, 1, h, w], with h = H/2^S − 2 where that divides.

    Raises:
        ValueError: for sizes that are not positive or another normalisation.

    References:
        Isola, Zhu, Zhou and Efros, "Image-to-image translation with conditional adversarial
        networks", 2017, §3.2.2 and §6.1.2.

    Example:
        >>> import torch
        >>> from gencore.nn import PatchDiscriminator
        >>> discriminator = PatchDiscriminator(3, width=4)
        >>> discriminator(torch.zeros(2, 3, 64, 64)).shape, discriminator.patch_size
        (torch.Size([2, 1, 6, 6]), 70)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_scales: int = 3,
        width: int = 64,
        normalization: ImageNormalization = "batch",
    ) -> None:
        super().__init__()
        owner = "PatchDiscriminator"
        check_positive(owner, in_channels=in_channels, num_scales=num_scales, width=width)
        check_choice(owner, "normalization", normalization, get_args(ImageNormalization))
        self.stages = nn.ModuleList()
        before = in_channels
        for scale in range(num_scales + 1):
            features = width * min(2**scale, _MAX_FACTOR)
            stride = 2 if scale < num_scales else 1
            layers: list[nn.Module] = [nn.Conv2d(before, features, 4, stride, padding=1)]
            layers += normalization_layers(normalization, features) if scale else []
            self.stages.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
            before = features
        self.last = nn.Conv2d(before, 1, 4, padding=1)
        # Two layers of stride 1 see 7 features; a stride of 2 makes n of them 2n + 2.
        self.patch_size = 7
        for _ in range(num_scales):
            self.patch_size = 2 * self.patch_size + 2
        start_small(self)

    def features(self, x: Tensor) -> list[Tensor]:
        """The features of every layer but the last, from the finest."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 1, h, w] of images."""
        logits: Tensor = self.last(self.features(x)[-1])
        return logits
