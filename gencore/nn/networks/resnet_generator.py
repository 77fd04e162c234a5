"""The residual network that translates images, of CycleGAN (Johnson et al. 2016)."""

from typing import get_args

from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.networks.image_normalization import ImageNormalization, normalization_layers
from gencore.nn.networks.small_start import start_small
from gencore.sizes import check_positive

__all__ = ["ResNetGenerator"]


class ResNetGenerator(nn.Module):
    """From images to images of the same sides, by residual blocks at a quarter of the sides.

    A 7×7 convolution, S of 3×3 and stride 2 that double the channels, the blocks of two 3×3
    convolutions, S transposed ones and a 7×7 convolution; ReLU and normalisation between all, and
    images mirrored at their edges where a convolution keeps the sides. Weights start as
    N(0, 0.02²).

    Args:
        in_channels: of the given images.
        out_channels: of their translations.
        width: channels of the finest features.
        num_scales: S.
        num_blocks: residual blocks; in the source 9, and 6 for images of 128×128.
        normalization: "instance" as in the source, "batch" or "none".

    Shape:
        [N, in, H, W], with sides that are multiples of 2^S and at least 4 and 2^(S + 1) → [N, out,
        H, W] in [−1, 1].

    Raises:
        ValueError: for sizes that are not positive or another normalisation; on a call, for images
            of another shape.

    References:
        Zhu, Park, Isola and Efros, "Unpaired image-to-image translation using cycle-consistent
        adversarial networks", 2017, §7.2. Johnson, Alahi and Fei-Fei, "Perceptual losses for
        real-time style transfer and super-resolution", 2016.

    Example:
        >>> import torch
        >>> from gencore.nn import ResNetGenerator
        >>> ResNetGenerator(3, 1, width=4, num_blocks=2)(torch.zeros(2, 3, 16, 24)).shape
        torch.Size([2, 1, 16, 24])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        num_scales: int = 2,
        num_blocks: int = 9,
        normalization: ImageNormalization = "instance",
    ) -> None:
        super().__init__()
        owner = "ResNetGenerator"
        check_positive(
            owner, in_channels=in_channels, out_channels=out_channels, width=width,
            num_scales=num_scales, num_blocks=num_blocks,
        )  # fmt: skip
        check_choice(owner, "normalization", normalization, get_args(ImageNormalization))
        self.in_channels, self.num_scales = in_channels, num_scales

        def activated(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
            norms = normalization_layers(normalization, convolution.out_channels)
            return [convolution, *norms, nn.ReLU()]

        layers = activated(_mirrored(in_channels, width, 7))
        for scale in range(num_scales):
            features = width << scale
            layers += activated(nn.Conv2d(features, 2 * features, 3, stride=2, padding=1))
        coarsest = width << num_scales
        layers += [_Block(coarsest, normalization) for _ in range(num_blocks)]
        for scale in reversed(range(num_scales)):
            features = width << scale
            layers += activated(
                nn.ConvTranspose2d(2 * features, features, 3, 2, padding=1, output_padding=1)
            )
        self.layers = nn.Sequential(*layers, _mirrored(width, out_channels, 7), nn.Tanh())
        start_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """The translations of images."""
        factor = 2**self.num_scales
        least = max(4, 2 * factor)
        if (
            x.ndim != 4
            or x.shape[1] != self.in_channels
            or any(side % factor or side < least for side in x.shape[2:])
        ):
            raise ValueError(
                f"ResNetGenerator: images have shape {list(x.shape)}; expected "
                f"[N, {self.in_channels}, H, W] with sides of at least {least} that are multiples "
                f"of {factor}"
            )
        y: Tensor = self.layers(x)
        return y


class _Block(nn.Module):
    """x + conv(ReLU(conv(x))), each convolution normalised."""

    def __init__(self, channels: int, normalization: ImageNormalization) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _mirrored(channels, channels, 3),
            *normalization_layers(normalization, channels),
            nn.ReLU(),
            _mirrored(channels, channels, 3),
            *normalization_layers(normalization, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.residual(x)
        return y


def _mirrored(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, padding_mode="reflect")
