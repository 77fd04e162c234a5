"""Residual networks from images to vectors and back."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive

__all__ = ["ImageDecoder", "ImageEncoder"]


class ImageEncoder(nn.Module):
    """From images to vectors: at each scale a convolution of stride 2 and a residual block.

    The last layer is linear and zero at first, so that a posterior that it parametrises starts as
    a standard normal distribution.

    Args:
        image_shape: [C, H, W] of the images; any sides.
        out_features: F.
        channels: of the features at every scale.
        num_scales: times that the sides are halved, rounded up.

    Raises:
        ValueError: for sizes that are not positive.

    Example:
        >>> import torch
        >>> from gencore.nn import ImageEncoder
        >>> ImageEncoder((1, 8, 8), 6)(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        out_features: int,
        *,
        channels: int = 32,
        num_scales: int = 2,
    ) -> None:
        super().__init__()
        sides = _check("ImageEncoder", image_shape, num_scales, out_features, channels)
        layers: list[nn.Module] = [nn.Conv2d(image_shape[0], channels, 3, padding=1)]
        for _ in range(num_scales):
            layers += [
                nn.ELU(),
                nn.Conv2d(channels, channels, 3, stride=2, padding=1),
                _ResidualBlock(channels),
            ]
        self.features = nn.Sequential(*layers, nn.ELU(), nn.Flatten())
        self.last = nn.Linear(channels * math.prod(sides[-1]), out_features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [N, F] of images [N, C, H, W]."""
        y: Tensor = self.last(self.features(x))
        return y


class ImageDecoder(nn.Module):
    """From vectors to images: the scales of :class:`ImageEncoder` in the opposite order.

    At each scale features are repeated to twice the sides and pass a convolution and a residual
    block.

    Args:
        in_features: F of the vectors.
        image_shape: [C, H, W] of the images; any sides.
        channels: of the features at every scale.
        num_scales: times that the sides are doubled.

    Raises:
        ValueError: for sizes that are not positive.

    Example:
        >>> import torch
        >>> from gencore.nn import ImageDecoder
        >>> ImageDecoder(6, (3, 7, 5))(torch.ones(2, 6)).shape
        torch.Size([2, 3, 7, 5])
    """

    def __init__(
        self,
        in_features: int,
        image_shape: Sequence[int],
        *,
        channels: int = 32,
        num_scales: int = 2,
    ) -> None:
        super().__init__()
        self.sides = _check("ImageDecoder", image_shape, num_scales, in_features, channels)[::-1]
        self.first = nn.Linear(in_features, channels * math.prod(self.sides[0]))
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.ELU(), nn.Conv2d(channels, channels, 3, padding=1), _ResidualBlock(channels)
            )
            for _ in range(num_scales)
        )
        self.last = nn.Sequential(nn.ELU(), nn.Conv2d(channels, image_shape[0], 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """Images [N, C, H, W] of vectors [N, F]."""
        h: Tensor = self.first(z).unflatten(1, (-1, *self.sides[0]))
        for scale, side in zip(self.scales, self.sides[1:], strict=True):
            h = scale(functional.interpolate(h, side, mode="nearest"))
        y: Tensor = self.last(h)
        return y


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.residual(x)
        return y


def _check(
    owner: str, image_shape: Sequence[int], num_scales: int, features: int, channels: int
) -> list[tuple[int, int]]:
    """The sides of the images at every scale, the finest first."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"{owner}: image_shape is {tuple(image_shape)}; expected [C, H, W]")
    check_positive(owner, features=features, channels=channels, num_scales=num_scales + 1)
    sides = [(image_shape[1], image_shape[2])]
    for _ in range(num_scales):
        height, width = sides[-1]
        sides.append((math.ceil(height / 2), math.ceil(width / 2)))
    return sides
