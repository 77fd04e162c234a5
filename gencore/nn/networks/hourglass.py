"""The hourglass: features made coarse and fine again, with skips, of images or of volumes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive, check_whole

__all__ = ["Hourglass"]


class Hourglass(nn.Module):
    """Features that see far and keep the resolution of their input.

    A block down is a convolution of side 3, batch normalisation, ReLU and the mean of 2 pixels
    along each side; a block up repeats pixels and is such a convolution too. Each scale of the way
    up sees the features of the way down beside its own.

    Args:
        in_channels: of the input.
        widths: channels of the scales, from the finest to the coarsest, one for each halving.
        num_dims: 2 for images, 3 for volumes.

    Attributes:
        out_channels: of the result, the first of the widths and the input's beside them.

    Shape:
        [N, in_channels, *size] → [N, out_channels, *size], with sides that are multiples of 2 to
        the power of the number of widths.

    Raises:
        ValueError: for sizes that do not fit; on a call, for features of another shape.

    References:
        Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019, supplementary material; Newell, Yang and Deng, "Stacked hourglass networks
        for human pose estimation", 2016.

    Example:
        >>> import torch
        >>> from gencore.nn import Hourglass
        >>> network = Hourglass(3, (8, 16))
        >>> network(torch.zeros(2, 3, 16, 12)).shape, network.out_channels
        (torch.Size([2, 11, 16, 12]), 11)
    """

    def __init__(self, in_channels: int, widths: Sequence[int], *, num_dims: int = 2) -> None:
        super().__init__()
        owner = "Hourglass"
        check_positive(owner, in_channels=in_channels)
        check_whole(owner, widths=list(widths))
        if not widths or min(widths) < 1:
            raise ValueError(f"{owner}: widths is {tuple(widths)}; expected at least one, positive")
        if num_dims not in (2, 3):
            raise ValueError(f"{owner}: num_dims is {num_dims}; expected 2 or 3")
        self.in_channels, self.num_dims = in_channels, num_dims
        self.factor = 2 ** len(widths)
        inputs = [in_channels, *widths[:-1]]
        self.downs = nn.ModuleList(
            _block(before, after, num_dims) for before, after in zip(inputs, widths, strict=True)
        )
        # Up from scale s: its own features, and those of the skip where it is not the coarsest.
        self.ups = nn.ModuleList()
        channels = widths[-1]
        for scale in reversed(range(len(widths))):
            after = widths[max(scale - 1, 0)]
            self.ups.append(_block(channels, after, num_dims))
            channels = after + inputs[scale]
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Features of the size of the input."""
        if (
            x.ndim != self.num_dims + 2
            or x.shape[1] != self.in_channels
            or any(side % self.factor for side in x.shape[2:])
        ):
            sides = "H, W" if self.num_dims == 2 else "D, H, W"
            raise ValueError(
                f"Hourglass: features have shape {list(x.shape)}; expected "
                f"[N, {self.in_channels}, {sides}] with sides that are multiples of {self.factor}"
            )
        pool = functional.avg_pool2d if self.num_dims == 2 else functional.avg_pool3d
        skips = []
        for down in self.downs:
            skips.append(x)
            x = pool(down(x), 2)
        for up in self.ups:
            x = up(functional.interpolate(x, scale_factor=2, mode="nearest"))
            x = torch.cat([x, skips.pop()], 1)
        return x


def _block(in_channels: int, out_channels: int, num_dims: int) -> nn.Sequential:
    convolution = nn.Conv2d if num_dims == 2 else nn.Conv3d
    normalization = nn.BatchNorm2d if num_dims == 2 else nn.BatchNorm3d
    return nn.Sequential(
        convolution(in_channels, out_channels, 3, padding=1),
        normalization(out_channels),
        nn.ReLU(),
    )
