"""Convolutional networks that make images smaller, and large again, by powers of two."""

from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive

__all__ = ["ResidualDecoder", "ResidualEncoder", "num_halvings"]


class ResidualBlock(nn.Module):
    """x + conv₁ₓ₁(relu(conv₃ₓ₃(relu(x))))."""

    def __init__(self, channels: int, block_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, block_channels, 3, padding=1)
        self.second = nn.Conv2d(block_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.first(functional.relu(x)))
        return x + self.second(h)


class ResidualEncoder(nn.Module):
    """The encoder of VQ-VAE: 4×4 convolutions of stride two, residual blocks, a 1×1 convolution.

    Args:
        in_channels: of the images.
        hidden_channels: of all layers between.
        out_channels: of the result.
        downsampling: r, a power of two by which sides become smaller.
        num_blocks: residual blocks.
        block_channels: of the layer within a block.

    Raises:
        ValueError: for sizes that are not positive or a factor that is no power of two.

    References:
        van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", 2017,
        section 4.1.

    Example:
        >>> import torch
        >>> from gencore.nn import ResidualEncoder
        >>> ResidualEncoder(3, 32, 8)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        downsampling: int = 4,
        num_blocks: int = 2,
        block_channels: int = 32,
    ) -> None:
        super().__init__()
        check_positive("ResidualEncoder", in_channels=in_channels, out_channels=out_channels)
        halvings = num_halvings("ResidualEncoder", "downsampling", downsampling)
        layers: list[nn.Module] = []
        for number in range(halvings):
            channels = hidden_channels if number else in_channels
            layers += [nn.Conv2d(channels, hidden_channels, 4, stride=2, padding=1), nn.ReLU()]
        channels = hidden_channels if halvings else in_channels
        layers.append(nn.Conv2d(channels, hidden_channels, 3, padding=1))
        layers += _blocks("ResidualEncoder", num_blocks, hidden_channels, block_channels)
        layers += [nn.ReLU(), nn.Conv2d(hidden_channels, out_channels, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, out_channels, H/r, W/r] of images [N, in_channels, H, W]."""
        y: Tensor = self.layers(x)
        return y


class ResidualDecoder(nn.Module):
    """The decoder of VQ-VAE: residual blocks, and transposed 4×4 convolutions of stride two.

    Args:
        in_channels: of the codes.
        hidden_channels: of all layers between.
        out_channels: of the images.
        upsampling: r, a power of two by which sides grow.
        num_blocks: residual blocks.
        block_channels: of the layer within a block.

    Raises:
        ValueError: for sizes that are not positive or a factor that is no power of two.

    References:
        van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", 2017,
        section 4.1.

    Example:
        >>> import torch
        >>> from gencore.nn import ResidualDecoder
        >>> ResidualDecoder(8, 32, 3)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        upsampling: int = 4,
        num_blocks: int = 2,
        block_channels: int = 32,
    ) -> None:
        super().__init__()
        check_positive("ResidualDecoder", in_channels=in_channels, out_channels=out_channels)
        doublings = num_halvings("ResidualDecoder", "upsampling", upsampling)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, hidden_channels, 3, padding=1)]
        layers += _blocks("ResidualDecoder", num_blocks, hidden_channels, block_channels)
        layers.append(nn.ReLU())
        for number in range(doublings):
            last = number == doublings - 1
            channels = out_channels if last else hidden_channels
            layers.append(nn.ConvTranspose2d(hidden_channels, channels, 4, stride=2, padding=1))
            layers += [] if last else [nn.ReLU()]
        if not doublings:
            layers.append(nn.Conv2d(hidden_channels, out_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, out_channels, r·H, r·W] of [N, in_channels, H, W]."""
        y: Tensor = self.layers(x)
        return y


def num_halvings(owner: str, name: str, factor: int) -> int:
    """log₂ of a factor, or raise where it is no power of two."""
    if factor < 1 or factor & (factor - 1):
        raise ValueError(f"{owner}: {name} is {factor}; expected a power of two")
    return factor.bit_length() - 1


def _blocks(owner: str, num: int, channels: int, block_channels: int) -> list[nn.Module]:
    check_positive(owner, hidden_channels=channels, block_channels=block_channels)
    if num < 0:
        raise ValueError(f"{owner}: num_blocks is {num}; expected at least 0")
    return [ResidualBlock(channels, block_channels) for _ in range(num)]
