"""Blocks that halve, keep or double the sides of features, and the sides that they go through."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.sizes import check_positive, check_whole

__all__ = ["BlockKind", "Resampling", "ResamplingBlock", "check_blocks"]

BlockKind = Literal["plain", "residual"]
Resampling = Literal["down", "none", "up"]


class ResamplingBlock(nn.Module):
    """A residual block of two 3×3 convolutions that may halve or double the sides.

    y = s(x) + conv(act(conv(act(x)))), with s a 1×1 convolution where the channels change. Sides
    are halved by means, at the end of both ways, and doubled by repetition, at their beginning.

    Args:
        in_channels: of x.
        out_channels: of y.
        resampling: what happens to the sides.
        activation: makes the activation functions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resampling: Resampling,
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.resampling = resampling
        self.residual = nn.Sequential(
            activation(),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.resampling == "up":
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        y: Tensor = self.skip(x) + self.residual(x)
        return functional.avg_pool2d(y, 2) if self.resampling == "down" else y


def check_blocks(
    owner: str, image_shape: Sequence[int], widths: Sequence[int], blocks: str, **sizes: int
) -> tuple[int, int]:
    """The sides of the coarsest features, or raise for what does not fit."""
    check_choice(owner, "blocks", blocks, get_args(BlockKind))
    check_positive(owner, **sizes)
    check_whole(owner, widths=list(widths))
    if not widths or min(widths) < 1:
        raise ValueError(f"{owner}: widths is {tuple(widths)}; expected at least one, positive")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"{owner}: image_shape is {tuple(image_shape)}; expected [C, H, W]")
    height, width = image_shape[1:]
    factor = 2 ** (len(widths) - 1)
    if height % factor or width % factor:
        raise ValueError(
            f"{owner}: images are {height}x{width}; expected multiples of {factor} for "
            f"{len(widths)} widths"
        )
    return height // factor, width // factor
