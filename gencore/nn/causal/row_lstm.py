"""The LSTM whose rows are computed as a whole, from the top of an image to its bottom."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.nn.causal.lstm_scan import (
    InputToState,
    lstm_cell,
    lstm_scan,
    places_before,
    uniform_start,
)
from gencore.sizes import check_positive

__all__ = ["RowLSTM", "RowLSTMSteps"]


class RowLSTM(nn.Module):
    r"""An LSTM over the rows of an image, each from the states of the row above.

    .. math:: h_r(q), c_r(q) = \mathrm{cell}\Big(s_r(q) + \sum_{|j| \le (k-1)/2} U_j\,
              h_{r-1}(q + j),\; c_{r-1}(q)\Big)

    for the row r and the column q. The gates s come from a masked convolution along the row, which
    sees the pixel itself and (k − 1)/2 pixels to its left. So a state sees a triangle that opens
    upwards by (k − 1)/2 columns a row. All that comes from the row above is of earlier pixels, and
    needs no mask.

    Args:
        in_channels: channels of the input.
        channels: h, channels of the states.
        kernel_size: k, odd.
        channel_groups: G, which divides both: at the pixel itself a group sees those up to its own.
        context_channels: channels of a context that biases the gates; 0 for none.

    Raises:
        ValueError: for sizes that are not positive, or do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.1.

    Example:
        >>> import torch
        >>> from gencore.nn import RowLSTM
        >>> RowLSTM(6, 3, channel_groups=3)(torch.zeros(2, 6, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel_size: int = 3,
        channel_groups: int = 1,
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive("RowLSTM", kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"RowLSTM: kernel_size is {kernel_size}; expected an odd number")
        self.channels = channels
        self.kernel_size = kernel_size
        self.input_to_state = InputToState(
            "RowLSTM",
            in_channels,
            channels,
            self.reach + 1,
            channel_groups=channel_groups,
            context_channels=context_channels,
        )
        self.state_to_state = uniform_start(1, kernel_size, channels)

    @property
    def reach(self) -> int:
        """(k − 1)/2, the columns that are seen on either side."""
        return (self.kernel_size - 1) // 2

    @property
    def offsets(self) -> range:
        """Of the columns that a pixel sees of the row above, from its own."""
        return range(-self.reach, self.reach + 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """h [N, channels, H, W] of x [N, in_channels, H, W].

        Args:
            x: features.
            context: [N, context_channels, H, W], or of a single pixel that stands for all.
        """
        num, _, height, width = x.shape
        padded = functional.pad(x, (self.reach, 0)).permute(2, 3, 0, 1)
        seen = torch.cat([padded[:, tap : tap + width] for tap in range(self.reach + 1)], -1)
        gates = self.input_to_state(seen.flatten(0, 1).unsqueeze(0))
        bias = self.input_to_state.of_context(context)
        if bias is not None:
            gates = (gates.unflatten(1, (height, width)) + bias).flatten(1, 2)
        states = lstm_scan(gates, self.state_to_state, [(0, width)] * height, self.offsets)
        return states.view(height, width, num, self.channels).permute(2, 3, 0, 1)

    def steps(
        self, num: int, sides: tuple[int, int], context: Tensor | None = None
    ) -> "RowLSTMSteps":
        """The same for `num` images of these sides, pixel by pixel."""
        return RowLSTMSteps(self, num, sides, context)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, kernel_size={self.kernel_size}"


class RowLSTMSteps:
    """The states of a `RowLSTM`, one pixel after another in raster order.

    Args:
        layer: the LSTM.
        num: images N.
        sides: H and W.
        context: of the layer.
    """

    def __init__(
        self, layer: RowLSTM, num: int, sides: tuple[int, int], context: Tensor | None
    ) -> None:
        self.layer = layer
        part = layer.input_to_state
        self.weight = part.matrix()[0]
        self.base = part.without_image(context, sides)[0]
        self.row = -1
        zeros = self.weight.new_zeros
        self.inputs = zeros(sides[1] + layer.reach, num, part.in_channels)
        self.h, self.c = zeros(2, sides[1], num, layer.channels).unbind(0)

    def pixel(self, x: Tensor, row: int, column: int) -> Tensor:
        """h [N, channels] of the input x [N, in_channels] there.

        It may be called again at the same pixel, and the last call holds.
        """
        if row != self.row:
            self._start_row(row)
        reach = self.layer.reach
        self.inputs[column + reach] = x
        seen = self.inputs[column : column + reach + 1].transpose(0, 1).flatten(1)
        gates = torch.addmm(self.gates[column], seen, self.weight)
        self.h[column], self.c[column] = lstm_cell(gates, self.c_above[column])
        return self.h[column]

    def _start_row(self, row: int) -> None:
        """What comes from the row above, of all pixels of the row at once."""
        self.row = row
        width = len(self.h)
        span = (0, width)
        seen = torch.cat(
            [places_before(self.h[None], span, span, offset) for offset in self.layer.offsets], -1
        )
        mixed = seen.flatten(1, 2) @ self.layer.state_to_state
        self.gates = mixed.view(width, -1, mixed.shape[-1]) + self.base[row]
        self.c_above = self.c.clone()
