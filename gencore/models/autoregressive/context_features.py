"""Features of a context at each layer of a network of several resolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DeepContext", "SharedContext"]

# A map a block of each resolution: on the way to the smallest one, and on the way back.
Features = tuple[list[list[Tensor]], list[list[Tensor]]]


class SharedContext(nn.Module):
    """The context itself, averaged to each resolution, for every block there.

    Args:
        num_blocks: of each resolution on the way to the smallest one, and one more on the way back
            of all but that.
        num_scales: resolutions.
    """

    def __init__(self, num_blocks: int, num_scales: int) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        self.num_scales = num_scales

    def forward(self, context: Tensor) -> Features:
        """Of maps [N, K, H, W], or [N, K, 1, 1] for vectors."""
        maps = [context]
        for _ in range(self.num_scales - 1):
            maps.append(_halve(maps[-1]))
        there = [[scale] * self.num_blocks for scale in maps]
        return there, [[scale] * (self.num_blocks + 1) for scale in reversed(maps)]


# The shape of the context decides here; to `torch.fx` the function is a single operation.
@torch.fx.wrap
def _halve(x: Tensor) -> Tensor:
    return x if x.shape[2:] == (1, 1) else functional.avg_pool2d(x, 2)


@torch.fx.wrap
def _spread(x: Tensor, height: int, width: int) -> Tensor:
    return x.expand(-1, -1, height, width)


class DeepContext(nn.Module):
    """A network as deep as the one it conditions: a residual 3×3 convolution for each block.

    Args:
        in_channels: K of contexts [N, K, H, W]; vectors are spread over the image.
        channels: of the features.
        sides: H and W.
        num_blocks: of each resolution on the way to the smallest one, and one more on the way back
            of all but that.
        num_scales: resolutions.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §3.3.2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sides: tuple[int, int],
        num_blocks: int,
        num_scales: int,
    ) -> None:
        super().__init__()
        self.sides = (sides[0], sides[1])

        def conv(inputs: int = channels, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(inputs, channels, 3, stride, padding=1)

        counts = [num_blocks] + [num_blocks + 1] * (num_scales - 1)
        self.start = conv(in_channels)
        self.there = nn.ModuleList(
            nn.ModuleList(conv() for _ in range(num_blocks)) for _ in range(num_scales)
        )
        self.down = nn.ModuleList(conv(stride=2) for _ in range(num_scales - 1))
        self.back = nn.ModuleList(nn.ModuleList(conv() for _ in range(n)) for n in counts)

    def forward(self, context: Tensor) -> Features:
        """Of maps [N, K, H, W], or [N, K, 1, 1]."""
        x = self.start(_spread(context, *self.sides))
        there: list[list[Tensor]] = []
        back: list[list[Tensor]] = []
        for scale, layers in enumerate(self.there):
            if scale:
                x = self.down[scale - 1](functional.elu(x))
            there.append([])
            for layer in layers.children():
                x = x + layer(functional.elu(x))
                there[-1].append(x)
        for scale, layers in enumerate(self.back):
            if scale:
                x = functional.interpolate(x, scale_factor=2.0)
            back.append([])
            for layer in layers.children():
                x = x + layer(functional.elu(x))
                back[-1].append(x)
        return there, back
