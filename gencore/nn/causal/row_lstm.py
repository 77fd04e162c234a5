"""The LSTM whose rows are computed as a whole, from the top of an image to its bottom."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencore.nn.causal.lstm_scan import InputToState, lstm_cell, lstm_scan, uniform_start
from gencore.nn.causal.lstm_steps import LSTMSteps, condition_on, context_map
from gencore.sizes import check_positive

__all__ = ["RowLSTM"]


class RowLSTM(nn.Module):
    r"""An LSTM over the rows of an image, each from the states of the row above.

    .. math:: h_r(c), c_r(c) = \mathrm{cell}\Big(s_r(c) + \sum_{|j| \le (k-1)/2} U_j\,
              h_{r-1}(c + j),\; c_{r-1}(c)\Big)

    with gates s from a masked convolution of the row, `InputToState`, which sees the pixel itself
    and (k − 1)/2 pixels to its left. So a state sees a triangle that opens upwards by (k − 1)/2
    columns a row. All that comes from the row above lies in the past, and needs no mask.

    Args:
        in_channels: channels I of the input.
        channels: channels h of the states.
        kernel_size: k, odd.
        channel_groups: G, which divides both: at the pixel itself a group sees those up to its own.
        context_channels: channels K of a map that biases the gates; 0 for none.

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
        side = (kernel_size - 1) // 2
        self.input_to_state = InputToState(
            "RowLSTM", in_channels, channels, side + 1, channel_groups
        )
        self.state_to_state = uniform_start(1, kernel_size, channels)
        self.context = context_map(context_channels, 4 * channels)

    @property
    def offsets(self) -> range:
        """Columns, from the pixel's own, that it sees of the row above."""
        side = (self.kernel_size - 1) // 2
        return range(-side, side + 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """h [N, channels, H, W] of x [N, in_channels, H, W] and a context [N, K, H, W]."""
        gates = condition_on(self.input_to_state(x), self.context, context)
        num, _, height, width = gates.shape
        gates = gates.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(0)
        states = lstm_scan(gates, self.state_to_state, [(0, width)] * height, self.offsets)
        return states.view(height, width, num, self.channels).permute(2, 3, 0, 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"
