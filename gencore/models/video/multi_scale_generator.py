"""The multi-scale predictor of frames: each scale refines what the coarser one has guessed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate

from gencore.choices import check_choice
from gencore.models.video.pyramid import check_sides, image_pyramid
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import finite
from gencore.sizes import check_positive

__all__ = ["MultiScaleGenerator", "Upsampling"]

Upsampling = Literal["bilinear", "nearest"]


class _Row(NamedTuple):
    """A row of Table 4.1: the widths of the hidden layers, and the kernels of all layers."""

    widths: tuple[int, ...]
    kernels: tuple[int, ...]


# G_1 … G_4, for patches with sides of 4, 8, 16 and 32 pixels. The kernels that the thesis's table
# does not show are those of the paper's, which has the same layers (Mathieu et al. 2016, Table 1).
_TABLE = (
    _Row((128, 256, 128), (3, 3, 3, 3)),
    _Row((128, 256, 128), (5, 3, 3, 5)),
    _Row((128, 256, 512, 256, 128), (5, 3, 3, 3, 3, 5)),
    _Row((128, 256, 512, 256, 128), (7, 5, 5, 5, 5, 7)),
)


class MultiScaleGenerator(nn.Module):
    """The next frame from the last m frames, predicted at K scales from coarse to fine.

    With frames x_k and prediction ŷ_k of scale k and u, which doubles the sides,

        ŷ_1 = tanh(G_1(x_1)),    ŷ_k = tanh(G_k(x_k, u ŷ_{k−1}) + u ŷ_{k−1}),    k = 2 … K.

    Each G_k is a stack of padded convolutions with ReLUs between them, as Table 4.1 has it for the
    sides 4, 8, 16 and 32 (larger ones have those of 32). So the model is trained on patches and run
    on images of any size. As in the paper's program, the tanh comes after the sum: it keeps
    predictions in [-1, 1].

    The defaults are Model 1. Model 2 has ``batch_norm=True, noise_std=1.0``; of its table only the
    description is known, and its layers here are those of Model 1. The baseline of a single scale
    has ``num_scales=1``: G_4 alone, without a coarser guess.

    Args:
        image_size: side of the patches in training, which chooses the networks: scale k is for
            image_size / 2^(K − k) pixels.
        num_scales: K.
        num_inputs: m.
        channels: of a frame, 3 for colours.
        width: factor of the hidden layers' widths, for smaller models.
        batch_norm: normalise over the batch after every convolution but the last of each network.
        noise_std: σ of normal noise that is added to the middle features of each network.
        upsampling: u, "bilinear" as in the thesis or "nearest" as in the paper's program.

    Shape:
        [N, m, C, H, W] in [-1, 1], with H and W multiples of 2^(K − 1) → a tuple of K predictions
        [N, C, H / 2^(K − k), W / 2^(K − k)] in [-1, 1], the finest last.

    Raises:
        ValueError: for sizes below 1, sides that cannot be halved so often, a width or noise that
            is not finite and positive, and on a call with frames of another shape.
        TypeError: on a call with frames that are not floating point.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.2.1 and Table 4.1; Mathieu,
        Couprie and LeCun, "Deep multi-scale video prediction beyond mean square error", 2016.

    Example:
        >>> import torch
        >>> from gencore.models import MultiScaleGenerator
        >>> model = MultiScaleGenerator(width=0.05)
        >>> coarse, *_, fine = model(torch.zeros(2, 4, 3, 48, 64))
        >>> tuple(coarse.shape), tuple(fine.shape)
        ((2, 3, 6, 8), (2, 3, 48, 64))
        >>> model.predict(torch.zeros(1, 4, 3, 32, 32), 5).shape
        torch.Size([1, 5, 3, 32, 32])
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
        noise_std: float = 0.0,
        upsampling: Upsampling = "bilinear",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_positive(owner, num_inputs=num_inputs, channels=channels)
        check_sides(owner, (image_size, image_size), num_scales)
        check_choice(owner, "upsampling", upsampling, ("bilinear", "nearest"))
        if not finite(owner, "width", width) > 0 or not finite(owner, "noise_std", noise_std) >= 0:
            raise ValueError(
                f"{owner}: width is {width} and noise_std {noise_std}; expected a positive width "
                "and noise of 0 or more"
            )
        self.num_scales, self.num_inputs, self.channels = num_scales, num_inputs, channels
        self.noise_std, self.upsampling = float(noise_std), upsampling
        self.networks = nn.ModuleList()
        for k in range(num_scales):
            side = image_size >> (num_scales - 1 - k)
            row = _TABLE[min(max(side.bit_length() - 3, 0), len(_TABLE) - 1)]
            widths = [max(1, round(width * hidden)) for hidden in row.widths]
            inputs = channels * (num_inputs + bool(k))
            self.networks.append(
                _ScaleNetwork([inputs, *widths, channels], row.kernels, batch_norm)
            )

    def forward(
        self, frames: Tensor, key: Tensor | None = None, first: int = 0
    ) -> tuple[Tensor, ...]:
        """The predictions of all scales, the coarsest first.

        Args:
            frames: the last m frames, the newest at the end.
            key: int64 [seed, offset] of the noise; by default drawn from torch's generator.
            first: number of rows of the batch before these.
        """
        self._check(frames)
        inputs = image_pyramid(frames.flatten(1, 2), self.num_scales)
        noise = self._noise(inputs, key, first)
        predictions: list[Tensor] = []
        for network, x, epsilon in zip(self.networks, inputs, noise, strict=True):
            if predictions:
                guess = self.upsample(predictions[-1])
                predictions.append((network(torch.cat([x, guess], 1), epsilon) + guess).tanh())
            else:
                predictions.append(network(x, epsilon).tanh())
        return tuple(predictions)

    def predict(
        self, frames: Tensor, num_frames: int, *, generator: Generator | None = None
    ) -> Tensor:
        """Frames one after another: each prediction is the newest input of the next.

        Args:
            frames: [N, m, C, H, W].
            num_frames: n.
            generator: of the noise.

        Returns:
            [N, n, C, H, W].
        """
        check_positive("MultiScaleGenerator.predict", num_frames=num_frames)
        window = frames
        for _ in range(num_frames):
            key = random_key(generator, device=frames.device) if self.noise_std else None
            newest = self(window[:, -self.num_inputs :], key)[-1]
            window = torch.cat([window, newest.unsqueeze(1)], 1)
        return window[:, -num_frames:]

    def upsample(self, images: Tensor) -> Tensor:
        """u: twice the sides, [N, C, H, W] → [N, C, 2H, 2W]."""
        if self.upsampling == "nearest":
            return interpolate(images, scale_factor=2, mode="nearest")
        return interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)

    def _noise(
        self, inputs: Sequence[Tensor], key: Tensor | None, first: int
    ) -> Sequence[Tensor | None]:
        """The noise of each scale's middle features; that of one row does not depend on others."""
        if not self.noise_std:
            return [None] * self.num_scales
        shapes = [
            (network.middle_width, *x.shape[-2:])
            for network, x in zip(self.networks, inputs, strict=True)
        ]
        sizes = [width * height * columns for width, height, columns in shapes]
        rows, device = len(inputs[0]), inputs[0].device
        key = random_key(device=device) if key is None else key
        flat = philox_normal(
            (rows, sum(sizes)), key, first_element=first * sum(sizes), dtype=inputs[0].dtype
        )
        parts = (self.noise_std * flat).split(sizes, 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def _check(self, frames: Tensor) -> None:
        if not frames.is_floating_point():
            raise TypeError(
                f"MultiScaleGenerator: frames are {frames.dtype}; expected floating point in "
                "[-1, 1]"
            )
        if frames.ndim != 5 or tuple(frames.shape[1:3]) != (self.num_inputs, self.channels):
            raise ValueError(
                f"MultiScaleGenerator: frames have shape {list(frames.shape)}; expected "
                f"[N, {self.num_inputs}, {self.channels}, H, W]"
            )


class _ScaleNetwork(nn.Module):
    """G_k without its tanh: padded convolutions with ReLUs, and noise on the middle features."""

    def __init__(self, widths: Sequence[int], kernels: Sequence[int], batch_norm: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            for (inputs, outputs), kernel in zip(pairwise(widths), kernels, strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if batch_norm else nn.Identity() for width in widths[1:-1]
        )
        self._middle = len(self.norms) // 2
        self.middle_width = widths[1 + self._middle]

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        *hidden, last = self.convolutions
        for number, (convolution, norm) in enumerate(zip(hidden, self.norms, strict=True)):
            x = norm(convolution(x)).relu()
            if noise is not None and number == self._middle:
                x = x + noise
        output: Tensor = last(x)
        return output
