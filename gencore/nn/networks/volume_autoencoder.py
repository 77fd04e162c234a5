"""Networks from images to volumes of features, and from volumes back to images."""

from torch import Tensor, nn

from gencore.sizes import check_positive, check_whole

__all__ = ["VolumeDecoder", "VolumeEncoder"]


class VolumeEncoder(nn.Module):
    """Volumes of features of an image: 2-D blocks, channels cut into planes, 3-D residual blocks.

    A 7×7 convolution, blocks that double the channels and halve the sides, a 1×1 convolution to
    `depth` times `out_channels` maps, of which each plane of the volume has `out_channels`, and
    residual blocks of 3×3×3 convolutions.

    Args:
        channels: of the images.
        out_channels: C of the volume; 32 in the source.
        depth: D of the volume; 16 in the source.
        width: channels of the first features; 64 in the source.
        num_halvings: of the sides; 2 in the source.
        num_blocks: residual blocks; 6 in the source.

    Shape:
        [N, channels, H, W] with sides that are multiples of 2^num_halvings → [N, C, D, H/r, W/r].

    Raises:
        ValueError: for sizes that are not positive; on a call, for images of another shape.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, table 4.9;
        Wang, Mallya and Liu, "One-shot free-view neural talking-head synthesis", 2021.

    Example:
        >>> import torch
        >>> from gencore.nn import VolumeEncoder
        >>> encoder = VolumeEncoder(3, out_channels=4, depth=5, width=8, num_blocks=1)
        >>> encoder(torch.zeros(2, 3, 16, 24)).shape
        torch.Size([2, 4, 5, 4, 6])
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        out_channels: int = 32,
        depth: int = 16,
        width: int = 64,
        num_halvings: int = 2,
        num_blocks: int = 6,
    ) -> None:
        super().__init__()
        check_positive(
            "VolumeEncoder", channels=channels, out_channels=out_channels, depth=depth,
            width=width, num_halvings=num_halvings,
        )  # fmt: skip
        _check_not_negative("VolumeEncoder", num_blocks=num_blocks)
        self.channels, self.depth, self.factor = channels, depth, 2**num_halvings
        layers: list[nn.Module] = _convolution(channels, width, 7)
        for _ in range(num_halvings):
            layers += [*_convolution(width, 2 * width, 3), nn.AvgPool2d(2)]
            width *= 2
        layers.append(nn.Conv2d(width, out_channels * depth, 1))
        self.plane = nn.Sequential(*layers)
        self.volume = nn.Sequential(
            *(_ResidualBlock(out_channels, num_dims=3) for _ in range(num_blocks))
        )

    def forward(self, images: Tensor) -> Tensor:
        """The volumes of images."""
        shape, factor = images.shape, self.factor
        if images.ndim != 4 or shape[1] != self.channels or any(n % factor for n in shape[2:]):
            raise ValueError(
                f"VolumeEncoder: images have shape {list(shape)}; expected [N, {self.channels}, H, "
                f"W] with sides that are multiples of {factor}"
            )
        y: Tensor = self.volume(self.plane(images).unflatten(1, (-1, self.depth)))
        return y


class VolumeDecoder(nn.Module):
    """Images of volumes of features, of which a part may be invisible.

    The volume's planes become channels; a 3×3 and a 1×1 convolution; the product with the
    visibility; residual blocks; blocks that double the sides and halve the channels; a 7×7
    convolution and the logistic function.

    Args:
        channels: of the images.
        in_channels: C of the volume.
        depth: D of the volume.
        width: channels of the last features; 64 in the source.
        num_doublings: of the sides.
        num_blocks: residual blocks.

    Shape:
        [N, C, D, h, w] and a visibility [N, 1, h, w] → [N, channels, r h, r w] in [0, 1].

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, table 4.9.

    Example:
        >>> import torch
        >>> from gencore.nn import VolumeDecoder
        >>> decoder = VolumeDecoder(3, in_channels=4, depth=5, width=8, num_blocks=1)
        >>> decoder(torch.zeros(2, 4, 5, 4, 6), torch.ones(2, 1, 4, 6)).shape
        torch.Size([2, 3, 16, 24])
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        in_channels: int = 32,
        depth: int = 16,
        width: int = 64,
        num_doublings: int = 2,
        num_blocks: int = 6,
    ) -> None:
        super().__init__()
        check_positive(
            "VolumeDecoder", channels=channels, in_channels=in_channels, depth=depth,
            width=width, num_doublings=num_doublings,
        )  # fmt: skip
        _check_not_negative("VolumeDecoder", num_blocks=num_blocks)
        features = width * 2**num_doublings
        self.joined = nn.Sequential(
            nn.Conv2d(in_channels * depth, features, 3, padding=1),
            nn.BatchNorm2d(features),
            nn.LeakyReLU(0.2),
            nn.Conv2d(features, features, 1),
        )
        layers: list[nn.Module] = [_ResidualBlock(features, num_dims=2) for _ in range(num_blocks)]
        for _ in range(num_doublings):
            layers += [nn.Upsample(scale_factor=2), *_convolution(features, features // 2, 3)]
            features //= 2
        layers += [nn.Conv2d(features, channels, 7, padding=3), nn.Sigmoid()]
        self.image = nn.Sequential(*layers)

    def forward(self, volumes: Tensor, visibility: Tensor) -> Tensor:
        """The images of volumes."""
        y: Tensor = self.image(self.joined(volumes.flatten(1, 2)) * visibility)
        return y


class _ResidualBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))."""

    def __init__(self, channels: int, *, num_dims: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if num_dims == 2 else nn.Conv3d
        normalization = nn.BatchNorm2d if num_dims == 2 else nn.BatchNorm3d
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [normalization(channels), nn.ReLU()]
            layers.append(convolution(channels, channels, 3, padding=1))
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.residual(x)
        return y


def _convolution(in_channels: int, out_channels: int, side: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, side, padding=side // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _check_not_negative(owner: str, **sizes: int) -> None:
    check_whole(owner, **sizes)
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{owner}: {name} is {size}; expected at least 0")
