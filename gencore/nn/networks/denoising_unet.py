"""The U-Net that denoises images at every level of a diffusion."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.nn.networks.time_embedding import TimeEmbedding
from gencore.sizes import check_positive

__all__ = ["DenoisingUNet"]

_MOST_GROUPS = 32


class TimedResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))), with a 1×1 convolution where x is wider."""

    def __init__(self, channels: int, out_channels: int, time_size: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = _norm(channels)
        self.first = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_size, out_channels)
        self.second_norm = _norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.second = _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.first(functional.silu(self.first_norm(x)))
        h = functional.silu(self.second_norm(h + self.time(time)[:, :, None, None]))
        y: Tensor = self.shortcut(x) + self.second(self.dropout(h))
        return y


class SelfAttention(nn.Module):
    """Each pixel adds a mean of all, weighted by the softmax of scaled dot products; one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        projected = self.queries_keys_values(self.norm(x)).flatten(2).transpose(1, 2)
        queries, keys, values = projected.chunk(3, 2)
        mean = functional.scaled_dot_product_attention(queries, keys, values)
        y: Tensor = x + self.out(mean.transpose(1, 2).reshape(x.shape))
        return y


class DenoisingUNet(nn.Module):
    """Residual blocks over several scales, down and up again, with shortcuts between equal scales.

    A block sees the level through a `TimeEmbedding` and two linear layers, normalises over groups
    of channels and ends at zero, so that the network starts as zero. Scales halve by a convolution
    of stride two, and double by repeating pixels before a convolution. The middle has an attention
    layer between two blocks.

    Args:
        channels: of the images.
        width: channels of the first scale, before its multiplier.
        multipliers: of the width, one a scale.
        num_blocks: residual blocks a scale on the way down; one more on the way up.
        attention_scales: numbers of the scales, 0 the finest, whose blocks are followed by
            attention.
        dropout: fraction of activations that a block drops in training.
        out_channels: of the result; `channels` where it is missing.

    Shape:
        [N, C, H, W] and levels int64 [N] → [N, out_channels, H, W], sides multiples of
        2^(scales − 1).

    Raises:
        ValueError: for sizes that are not positive, an attention scale that there is not, and on a
            call with images whose sides cannot be halved so often.

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020, appendix B: width
        128, multipliers (1, 2, 2, 2), two blocks, attention at scale 1 and dropout 0.1 on CIFAR-10.

    Example:
        >>> unet = DenoisingUNet(1, width=16, multipliers=(1, 2), num_blocks=1)
        >>> unet(torch.ones(2, 1, 8, 8), torch.tensor([1, 50])).abs().max().item()
        0.0
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        num_blocks: int = 2,
        attention_scales: Collection[int] = (),
        dropout: float = 0.0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        name = "DenoisingUNet"
        check_positive(
            name, channels=channels, width=width, num_blocks=num_blocks, out_channels=out_channels
        )
        if not multipliers or min(multipliers) < 1:
            raise ValueError(
                f"{name}: multipliers are {tuple(multipliers)}; expected one or more of at least 1"
            )
        if not set(attention_scales) <= set(range(len(multipliers))):
            raise ValueError(
                f"{name}: attention_scales are {tuple(attention_scales)}; expected numbers from 0 "
                f"to {len(multipliers) - 1}"
            )
        if width % 2:
            raise ValueError(f"{name}: width is {width}; expected an even number")
        time_size = 4 * width
        self.factor = 2 ** (len(multipliers) - 1)
        self.embedding = TimeEmbedding(max(width, 4))
        self.time = nn.Sequential(
            nn.Linear(max(width, 4), time_size), nn.SiLU(), nn.Linear(time_size, time_size)
        )

        def block(scale: int | None, inputs: int, outputs: int) -> nn.ModuleList:
            layers: list[nn.Module] = [TimedResidualBlock(inputs, outputs, time_size, dropout)]
            layers += [SelfAttention(outputs)] if scale in attention_scales else []
            return nn.ModuleList(layers)

        self.first = nn.Conv2d(channels, width, 3, padding=1)
        kept, now = [width], width
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        for scale, multiplier in enumerate(multipliers):
            blocks = nn.ModuleList()
            for _ in range(num_blocks):
                blocks.append(block(scale, now, width * multiplier))
                now = width * multiplier
                kept.append(now)
            self.down.append(blocks)
            if scale < len(multipliers) - 1:
                self.smaller.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                kept.append(now)
        self.middle = nn.ModuleList(
            [
                TimedResidualBlock(now, now, time_size, dropout),
                SelfAttention(now),
                TimedResidualBlock(now, now, time_size, dropout),
            ]
        )
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for scale, multiplier in reversed(list(enumerate(multipliers))):
            blocks = nn.ModuleList()
            for _ in range(num_blocks + 1):
                blocks.append(block(scale, now + kept.pop(), width * multiplier))
                now = width * multiplier
            self.up.append(blocks)
            if scale:
                self.larger.append(nn.Conv2d(now, now, 3, padding=1))
        self.last_norm = _norm(now)
        self.last = _zero(nn.Conv2d(now, out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"DenoisingUNet: the images are {height}x{width}; expected sides that are "
                f"multiples of {self.factor}"
            )
        time = functional.silu(self.time(self.embedding(t).to(x.dtype)))
        h = self.first(x)
        kept = [h]
        for scale, blocks in enumerate(self.down):
            for layers in _lists(blocks):
                h = _through(layers, h, time)
                kept.append(h)
            if scale < len(self.smaller):
                h = self.smaller[scale](h)
                kept.append(h)
        h = _through(self.middle, h, time)
        for scale, blocks in enumerate(self.up):
            for layers in _lists(blocks):
                h = _through(layers, torch.cat([h, kept.pop()], 1), time)
            if scale < len(self.larger):
                h = self.larger[scale](functional.interpolate(h, scale_factor=2))
        y: Tensor = self.last(functional.silu(self.last_norm(h)))
        return y


def _lists(blocks: nn.Module) -> list[nn.ModuleList]:
    assert isinstance(blocks, nn.ModuleList)
    return [layers for layers in blocks if isinstance(layers, nn.ModuleList)]


def _through(layers: nn.ModuleList, h: Tensor, time: Tensor) -> Tensor:
    for layer in layers:
        h = layer(h, time)
    return h


def _norm(channels: int) -> nn.GroupNorm:
    """Over 32 groups, or the most that divide the channels into groups of two or more."""
    most = min(_MOST_GROUPS, max(channels // 2, 1))
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if channels % n == 0), channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
