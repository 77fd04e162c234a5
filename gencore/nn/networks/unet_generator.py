"""The U-Net that translates images, of pix2pix (Isola et al. 2017)."""

from typing import get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.networks.image_normalization import ImageNormalization, normalization_layers
from gencore.nn.networks.small_start import start_small
from gencore.ops._support.checks import number
from gencore.sizes import check_positive

__all__ = ["UNetGenerator"]

_MAX_FACTOR = 8
_NUM_DROPPED = 3


class UNetGenerator(nn.Module):
    """From images to images of the same sides, with skips between layers of one scale.

    The encoder halves the sides S times with 4×4 convolutions of stride 2 and leaky ReLU of slope
    0.2, the decoder doubles them with transposed ones and ReLU. Each layer of the decoder sees the
    features of its own scale from both. Channels double from `width` to eight times as many. The
    noise is dropout of the three coarsest layers of the decoder: keep the network in training mode
    to draw several translations of an image.

    No normalisation stands at the first and the last layer, nor at the coarsest scale, which may
    have a single pixel. Weights start as N(0, 0.02²).

    Args:
        in_channels: of the given images.
        out_channels: of their translations.
        num_scales: S; 8 in the source, for images of 256×256.
        width: channels of the finest features; 64 in the source.
        normalization: "batch", "instance" or "none".
        dropout: the probability that a feature is left out.

    Shape:
        [N, in, H, W], with sides that are multiples of 2^S → [N, out, H, W] in [−1, 1].

    Raises:
        ValueError: for sizes that are not positive, another normalisation, a probability of 1 or
            more; on a call, for images of another shape.

    References:
        Isola, Zhu, Zhou and Efros, "Image-to-image translation with conditional adversarial
        networks", 2017, §3.2.1 and §6.1.1.

    Example:
        >>> import torch
        >>> from gencore.nn import UNetGenerator
        >>> UNetGenerator(3, 1, num_scales=3, width=4)(torch.zeros(2, 3, 16, 24)).shape
        torch.Size([2, 1, 16, 24])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_scales: int = 8,
        width: int = 64,
        normalization: ImageNormalization = "batch",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        owner = "UNetGenerator"
        check_positive(
            owner, in_channels=in_channels, out_channels=out_channels, num_scales=num_scales,
            width=width,
        )  # fmt: skip
        check_choice(owner, "normalization", normalization, get_args(ImageNormalization))
        if number(owner, "dropout", dropout) >= 1:
            raise ValueError(f"{owner}: dropout is {dropout}; expected less than 1")
        self.in_channels, self.num_scales = in_channels, num_scales
        widths = [width * min(2**scale, _MAX_FACTOR) for scale in range(num_scales)]
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for scale, features in enumerate(widths):
            before = widths[scale - 1] if scale else in_channels
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if scale else []
            layers.append(nn.Conv2d(before, features, 4, stride=2, padding=1))
            if 0 < scale < num_scales - 1:
                layers += normalization_layers(normalization, features)
            self.downs.append(nn.Sequential(*layers))
        for scale in reversed(range(num_scales)):
            is_coarsest = scale == num_scales - 1
            given = widths[scale] * (1 if is_coarsest else 2)
            features = widths[scale - 1] if scale else out_channels
            layers = [nn.ReLU(), nn.ConvTranspose2d(given, features, 4, stride=2, padding=1)]
            if scale:
                layers += normalization_layers(normalization, features)
                if dropout and scale >= num_scales - _NUM_DROPPED:
                    layers.append(nn.Dropout(dropout))
            self.ups.append(nn.Sequential(*layers))
        start_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """The translations of images."""
        factor = 2**self.num_scales
        if x.ndim != 4 or x.shape[1] != self.in_channels or any(s % factor for s in x.shape[2:]):
            raise ValueError(
                f"UNetGenerator: images have shape {list(x.shape)}; expected "
                f"[N, {self.in_channels}, H, W] with sides that are multiples of {factor}"
            )
        features: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            features.append(x)
        coarsest, *ups = self.ups
        y: Tensor = coarsest(features.pop())
        for up in ups:
            y = up(torch.cat([y, features.pop()], 1))
        return y.tanh()
