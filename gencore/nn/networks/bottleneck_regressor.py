"""A residual network of bottlenecks from images to vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive, check_whole

__all__ = ["BottleneckRegressor"]

_NARROWING = 4


class BottleneckRegressor(nn.Module):
    """A vector of each image, zero for a new network.

    A 7×7 convolution of stride 2 and a maximum of stride 2, then bottleneck blocks (1×1, 3×3, 1×1
    convolutions, the inner ones a quarter as wide), whose groups double the channels and halve the
    sides, the mean over pixels and a linear layer that starts at zero.

    Args:
        out_features: of the vector.
        channels: of the images.
        width: channels of the first group; 256 in the source.
        num_blocks: of each group; (3, 4, 6, 3) in the source.

    Shape:
        [N, channels, H, W] → [N, out_features].

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, table 4.10,
        delta net; He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.

    Example:
        >>> import torch
        >>> from gencore.nn import BottleneckRegressor
        >>> BottleneckRegressor(6, width=16, num_blocks=(1, 1))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        out_features: int,
        *,
        channels: int = 3,
        width: int = 256,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
    ) -> None:
        super().__init__()
        owner = "BottleneckRegressor"
        check_positive(owner, out_features=out_features, channels=channels, width=width)
        check_whole(owner, num_blocks=list(num_blocks))
        if not num_blocks or min(num_blocks) < 1 or width % _NARROWING:
            raise ValueError(
                f"{owner}: num_blocks is {tuple(num_blocks)} and width {width}; expected at least "
                f"one number, positive, and a multiple of {_NARROWING}"
            )
        first = width // _NARROWING
        layers: list[nn.Module] = [
            nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        before = first
        for group, count in enumerate(num_blocks):
            after = width * 2**group
            for block in range(count):
                stride = 2 if group and not block else 1
                layers.append(_Bottleneck(before, after, stride))
                before = after
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(before, out_features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """The vectors of images."""
        y: Tensor = self.last(self.features(images).mean((2, 3)))
        return y


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = out_channels // _NARROWING
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.residual(x))
