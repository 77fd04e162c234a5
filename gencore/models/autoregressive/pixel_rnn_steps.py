"""PixelRNN one pixel after another, from states that are kept."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from gencore.models.autoregressive.sampling import Known
from gencore.nn import MaskedConv2d
from gencore.ops.masked_conv2d import live_taps

if TYPE_CHECKING:
    from gencore.models.autoregressive.pixel_rnn import PixelRNN, ResidualLSTM

__all__ = ["PixelRNNSteps", "draw_by_steps"]


class PixelRNNSteps:
    """The parameters of a `PixelRNN`, one pixel after another in raster order.

    Args:
        model: the network.
        num: images N.
        context: as a map as wide as the LSTMs see the image, or ``None``.
    """

    def __init__(self, model: "PixelRNN", num: int, context: Tensor | None) -> None:
        self.input = model.input
        height, self.width = model.image_shape[1:]
        self.columns_after = model.columns_after
        width = self.width + self.columns_after
        self.first = _Matrix(model.first)
        # The image as the first convolution sees it, with the zeros around it.
        side = model.first.kernel_size
        self.reach = side // 2
        self.seen = self.first.weight.new_zeros(
            num, model.first.in_channels, height + side - 1, width + side - 1
        )
        self.row = 0
        self.layers = [
            (
                layer.lstm.steps(num, (height, width), context),
                _Matrix(layer.widen),
            )
            for layer in cast("Iterable[ResidualLSTM]", model.layers)
        ]
        self.outputs = (_Matrix(model.outputs.first), _Matrix(model.outputs.second))

    def see(self, pixel: Tensor, row: int, column: int) -> None:
        """Take in the levels [N, C, 1, 1] of a pixel, or those of its channels that are known."""
        features = self.input(pixel)[..., 0, 0]
        self.seen[:, :, row + self.reach, column + self.reach] = features

    def parameters(self, row: int, column: int) -> Tensor:
        """[N, P, 1, 1] at a pixel, given what was seen. It is called for all pixels in order, and
        may be called again at the same one, when more of its channels are known."""
        if row != self.row:
            for column_after in range(self.columns_after):
                self._features(self.row, self.width + column_after)
            self.row = row
        features = self._features(row, column)
        for output in self.outputs:
            features = output(features.relu())
        return features[:, :, None, None]

    def _features(self, row: int, column: int) -> Tensor:
        """[N, 2h] behind the last LSTM."""
        side = 2 * self.reach + 1
        features = self.first(self.seen[:, :, row : row + side, column : column + side].flatten(1))
        for lstm, widen in self.layers:
            features = features + widen(lstm.pixel(features, row, column))
        return features


class _Matrix:
    """A masked convolution at a single pixel: a matrix with zeros in the place of dead taps."""

    def __init__(self, conv: MaskedConv2d) -> None:
        live = live_taps(conv.weight, conv.mask, conv.channel_groups)
        self.weight = conv.weight.where(live, 0.0).flatten(1)
        self.bias = conv.bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


def draw_by_steps(
    model: "PixelRNN",
    steps: PixelRNNSteps,
    images: Known,
    uniforms: Tensor,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draws the pixels; where a channel sees the pixel's others, each of them by itself."""
    x, mask = images.x, images.mask
    channels, height, width = model.image_shape
    for row in range(height):
        for column in range(width):
            pixel = (slice(None), slice(None), slice(row, row + 1), slice(column, column + 1))
            for channel in range(channels):
                # Even where all of the pixel is given the states need a last look at it: before its
                # last channel, which none of its own features see.
                if channel == 0 or model.channel_groups > 1:
                    parameters = steps.parameters(row, column)
                at = (slice(None), channel, *pixel[2:])
                level = model.likelihood.draw(parameters, uniforms[pixel], channel, x[pixel])
                x[at] = level if mask is None else torch.where(mask[at], x[at], level)
                steps.see(x[pixel], row, column)
        if progress is not None:
            progress(row + 1, height)
