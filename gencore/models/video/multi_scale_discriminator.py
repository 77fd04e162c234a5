"""The discriminator of predicted frames: at each scale a network tells them from real ones."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.video.pyramid import check_sides, image_pyramid
from gencore.ops._support.checks import finite
from gencore.sizes import check_positive

__all__ = ["MultiScaleDiscriminator"]


class _Row(NamedTuple):
    """A row of Table 4.1: convolutions without padding, a pool, fully connected layers."""

    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    pool: int
    hidden: tuple[int, ...]


# D_1 … D_4, for sides of 4, 8, 16 and 32 pixels, and one for 64, which the table does not have:
# D_4 with twice the pool, so that its first full layer does not become four times as large. The
# kernels that the thesis's table does not show are those of the paper (Table 2).
_TABLE = (
    _Row((64,), (3,), 1, (512, 256)),
    _Row((64, 128, 128), (3, 3, 3), 1, (1024, 512)),
    _Row((128, 256, 256), (5, 5, 5), 1, (1024, 512)),
    _Row((128, 256, 512, 512), (7, 7, 5, 5), 2, (1024, 512)),
    _Row((128, 256, 512, 512), (7, 7, 5, 5), 4, (1024, 512)),
)
_MIN_SIDE = 4


class MultiScaleDiscriminator(nn.Module):
    """Logits of D_k(x_k, y_k): whether frame y_k follows the frames x_k, at each of K scales.

    Each D_k is a stack of convolutions without padding, a max-pool at the finest scales, and fully
    connected layers, as Table 4.1 has them for the sides 4, 8, 16 and 32. Model 2 has
    ``batch_norm=True, separate_frames=True``. Real and predicted frames are given in calls of their
    own, so that each is normalised over its like; there are no running averages.

    Args:
        image_size: side of the images.
        num_scales: K.
        num_inputs: number of frames m in x.
        channels: of a frame.
        width: factor of the layers' widths, for smaller models.
        batch_norm: normalise over the batch after every convolution but the first of each network.
        separate_frames: the first layer sees one frame at a time, and its features of all frames
            are concatenated. It has a (m + 1)-th of the features for each, rounded up.

    Shape:
        Frames [N, m, C, S, S] and K images [N, C, S / 2^(K − k), S / 2^(K − k)] → logits [N, K].

    Raises:
        ValueError: for sizes below 1, sides that cannot be halved so often or are below 4 in the
            end, a width that is not finite and positive, and on a call with other shapes.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.2.2 and Table 4.1; Mathieu,
        Couprie and LeCun, "Deep multi-scale video prediction beyond mean square error", 2016.

    Example:
        >>> import torch
        >>> from gencore.models import MultiScaleDiscriminator, image_pyramid
        >>> model = MultiScaleDiscriminator(width=0.05)
        >>> frames, target = torch.zeros(2, 4, 3, 32, 32), torch.zeros(2, 3, 32, 32)
        >>> model(frames, image_pyramid(target, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        image_size: int = 32,
        *,
        num_scales: int = 4,
        num_inputs: int = 4,
        channels: int = 3,
        width: float = 1.0,
        batch_norm: bool = False,
        separate_frames: bool = False,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_positive(owner, num_inputs=num_inputs, channels=channels)
        check_sides(owner, (image_size, image_size), num_scales)
        if image_size >> (num_scales - 1) < _MIN_SIDE:
            raise ValueError(
                f"{owner}: the coarsest of {num_scales} scales of {image_size} pixels is "
                f"{image_size >> (num_scales - 1)}; expected at least {_MIN_SIDE}"
            )
        if not finite(owner, "width", width) > 0:
            raise ValueError(f"{owner}: width is {width}; expected a positive number")
        self.image_size, self.num_scales = image_size, num_scales
        self.num_inputs, self.channels = num_inputs, channels
        self.networks = nn.ModuleList()
        for k in range(num_scales):
            side = image_size >> (num_scales - 1 - k)
            row = _TABLE[min(side.bit_length() - 3, len(_TABLE) - 1)]
            self.networks.append(
                _ScaleNetwork(
                    row, side, num_inputs + 1, channels, width, batch_norm, separate_frames
                )
            )

    def forward(self, frames: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        """Logits of the images that may follow.

        Args:
            frames: real ones, the newest at the end.
            candidates: at each scale, the coarsest first: what a `MultiScaleGenerator` predicts, or
                `image_pyramid` makes of the true frame.
        """
        self._check(frames, candidates)
        inputs = image_pyramid(frames.flatten(1, 2), self.num_scales)
        logits = [
            network(torch.cat([x, y], 1))
            for network, x, y in zip(self.networks, inputs, candidates, strict=True)
        ]
        return torch.cat(logits, 1)

    def compare(
        self, frames: Tensor, real: Sequence[Tensor], predicted: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits of the real and of the predicted images, what one step of training needs."""
        return self(frames, real), self(frames, predicted)

    def _check(self, frames: Tensor, candidates: Sequence[Tensor]) -> None:
        side = self.image_size
        shape = (self.num_inputs, self.channels, side, side)
        if frames.ndim != 5 or tuple(frames.shape[1:]) != shape:
            raise ValueError(
                f"MultiScaleDiscriminator: frames have shape {list(frames.shape)}; expected "
                f"[N, {', '.join(map(str, shape))}]"
            )
        given = [list(image.shape) for image in candidates]
        sides = [side >> (self.num_scales - 1 - k) for k in range(self.num_scales)]
        expected = [[len(frames), self.channels, side, side] for side in sides]
        if given != expected:
            raise ValueError(
                f"MultiScaleDiscriminator: candidates have shapes {given}; expected {expected}"
            )


class _ScaleNetwork(nn.Sequential):
    """D_k without its sigmoid, [N, frames · C, side, side] → [N, 1]."""

    def __init__(
        self,
        row: _Row,
        side: int,
        num_frames: int,
        channels: int,
        factor: float,
        batch_norm: bool,
        separate_frames: bool,
    ) -> None:
        super().__init__()

        def scaled(widths: Sequence[int]) -> list[int]:
            return [max(1, round(factor * width)) for width in widths]

        widths = scaled(row.widths)
        if separate_frames:
            own = math.ceil(widths[0] / num_frames)
            first: nn.Module = _EachFrame(nn.Conv2d(channels, own, row.kernels[0]), num_frames)
            widths[0] = own * num_frames
        else:
            first = nn.Conv2d(num_frames * channels, widths[0], row.kernels[0])
        features: list[nn.Module] = [first, nn.ReLU()]
        for (inputs, outputs), kernel in zip(pairwise(widths), row.kernels[1:], strict=True):
            features.append(nn.Conv2d(inputs, outputs, kernel))
            if batch_norm:
                features.append(nn.BatchNorm2d(outputs, track_running_stats=False))
            features.append(nn.ReLU())
        if row.pool > 1:
            features[-1:] = [nn.MaxPool2d(row.pool), nn.ReLU()]
        left = (side - sum(kernel - 1 for kernel in row.kernels)) // row.pool
        self.features = nn.Sequential(*features, nn.Flatten())
        self.num_features = left**2 * widths[-1]
        full = [self.num_features, *scaled(row.hidden), 1]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(full):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.classifier = nn.Sequential(*layers[:-1])


class _EachFrame(nn.Module):
    """A layer that sees one frame at a time, [N, T · C, H, W] → [N, T · C', H', W']."""

    def __init__(self, layer: nn.Module, num_frames: int) -> None:
        super().__init__()
        self.layer, self.num_frames = layer, num_frames

    def forward(self, x: Tensor) -> Tensor:
        frames = x.unflatten(1, (self.num_frames, -1))
        features: Tensor = self.layer(frames.flatten(0, 1))
        return features.unflatten(0, frames.shape[:2]).flatten(1, 2)
