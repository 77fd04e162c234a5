"""The LSTMs that go over the diagonals of an image, from both upper corners."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.nn.causal.lstm_scan import InputToState, Span, lstm_cell, lstm_scan, uniform_start

__all__ = ["DiagonalBiLSTM", "DiagonalBiLSTMSteps", "diagonal_spans", "skew", "unskew"]

# A state at (r, q) sees those at (r − 1, q) and (r, q − 1): on the diagonal before its own, where
# the place of a pixel is its row, these are one place before it, and its own place.
_OFFSETS = (-1, 0)


def diagonal_spans(height: int, width: int) -> list[Span]:
    """(first, last + 1) of the rows of each diagonal r + q = 0, 1, …, H + W − 2.

    Example:
        >>> from gencore.nn.causal.diagonal_bilstm import diagonal_spans
        >>> diagonal_spans(2, 3)
        [(0, 1), (0, 2), (0, 2), (1, 2)]
    """
    return [(max(0, d - width + 1), min(height, d + 1)) for d in range(height + width - 1)]


def _order(height: int, width: int, device: torch.device) -> Tensor:
    """Numbers in raster order of the pixels of one diagonal after another, int64 [HW]."""
    rows = torch.arange(height, device=device)[:, None]
    diagonals = rows + torch.arange(width, device=device)
    return diagonals.flatten().argsort(stable=True)


def skew(x: Tensor) -> Tensor:
    """Pixels of an image [H, W, …] by diagonals, [HW, …]: those of r + q = 0, of r + q = 1, and so
    on, from top to bottom.

    The paper moves each row by one place for the same purpose, which makes [H, H + W − 1] and
    computes as many pixels outside of the image as inside.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.2.

    Example:
        >>> import torch
        >>> from gencore.nn.causal.diagonal_bilstm import skew
        >>> skew(torch.tensor([[0, 1, 2], [3, 4, 5]]))
        tensor([0, 1, 3, 2, 4, 5])
    """
    return x.flatten(0, 1).index_select(0, _order(x.shape[0], x.shape[1], x.device))


def unskew(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`skew`: [H, W, …] of [HW, …]."""
    places = _order(height, width, x.device).argsort()
    return x.index_select(0, places).unflatten(0, (height, width))


class DiagonalBiLSTM(nn.Module):
    r"""Two LSTMs over the diagonals of an image, which together see all earlier pixels.

    .. math:: h(r, q), c(r, q) = \mathrm{cell}\big(s(r, q) + U_1\, h(r - 1, q) + U_2\, h(r, q - 1),
              \; c(r, q - 1)\big), \quad y(r, q) = h(r, q) + \tilde h(r - 1, q)

    for the row r and the column q, with gates s from a 1×1 convolution with mask B. A state sees
    the rectangle above and to the left of its pixel. The other LSTM's h̃ is the same on the mirrored
    image, with weights of its own, and sees the rectangle to the right; it is taken a row lower, so
    that no later pixel is seen. All that states see of others is of earlier pixels, and needs no
    mask.

    Args:
        in_channels: channels of the input.
        channels: h, channels of the states.
        channel_groups: G, which divides both: at the pixel itself a group sees those up to its own.
        context_channels: channels of a context that biases the gates; 0 for none.

    Raises:
        ValueError: for sizes that are not positive, or do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.2.

    Example:
        >>> import torch
        >>> from gencore.nn import DiagonalBiLSTM
        >>> DiagonalBiLSTM(6, 3, channel_groups=3)(torch.zeros(2, 6, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        channel_groups: int = 1,
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.input_to_state = InputToState(
            "DiagonalBiLSTM",
            in_channels,
            channels,
            1,
            channel_groups=channel_groups,
            context_channels=context_channels,
            directions=2,
        )
        self.state_to_state = uniform_start(2, len(_OFFSETS), channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """y [N, channels, H, W] of x [N, in_channels, H, W].

        Args:
            x: features.
            context: [N, context_channels, H, W], or of a single pixel that stands for all.
        """
        height, width = x.shape[2:]
        pixels = x.permute(2, 3, 0, 1)
        gates = self.input_to_state(_by_diagonals(pixels, pixels))
        bias = self.input_to_state.of_context(context)
        if bias is not None:
            of_one_pixel = bias.shape[1:3] == (1, 1)
            gates = gates + (bias[:, 0] if of_one_pixel else _by_diagonals(*bias))
        states = lstm_scan(gates, self.state_to_state, diagonal_spans(height, width), _OFFSETS)
        left, right = (unskew(direction, height, width) for direction in states)
        return (left + _a_row_lower(right.flip(1))).permute(2, 3, 0, 1)

    def steps(
        self, num: int, sides: tuple[int, int], context: Tensor | None = None
    ) -> "DiagonalBiLSTMSteps":
        """The same for `num` images of these sides, pixel by pixel."""
        return DiagonalBiLSTMSteps(self, num, sides, context)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"


def _by_diagonals(left: Tensor, right: Tensor) -> Tensor:
    """[2, HW, …] of the two LSTMs' images [H, W, …], of which the second is mirrored."""
    return torch.stack([skew(left), skew(right.flip(1))])


def _a_row_lower(x: Tensor) -> Tensor:
    """x [H, W, N, h] from the second row on, with zeros in the first."""
    return functional.pad(x, (0, 0, 0, 0, 0, 0, 1, -1))


class DiagonalBiLSTMSteps:
    """The outputs of a `DiagonalBiLSTM`, one pixel after another in raster order.

    Args:
        layer: the LSTMs.
        num: images N.
        sides: H and W.
        context: of the layer.
    """

    def __init__(
        self, layer: DiagonalBiLSTM, num: int, sides: tuple[int, int], context: Tensor | None
    ) -> None:
        part, size = layer.input_to_state, layer.channels
        weights = part.matrix()
        # All that a pixel of the left one sees is multiplied at once: its input, what is above it
        # and what is to its left.
        self.weight = torch.cat([weights[0], layer.state_to_state[0]])
        self.right_weight, self.right_mix = weights[1], layer.state_to_state[1]
        self.base, self.right_base = part.without_image(context, sides)
        self.row = -1
        self.inputs = self.weight.new_zeros(sides[1], num, part.in_channels)
        # Of one row; a place after the last column stays zero, which index −1 also finds.
        self.h, self.c, self.right = self.weight.new_zeros(3, sides[1] + 1, num, size).unbind(0)

    def pixel(self, x: Tensor, row: int, column: int) -> Tensor:
        """y [N, channels] of the input x [N, in_channels] there.

        It may be called again at the same pixel, and the last call holds.
        """
        if row != self.row:
            self._start_row(row)
        self.inputs[column] = x
        seen = torch.cat([x, self.above[column], self.h[column - 1]], 1)
        gates = torch.addmm(self.base[row, column], seen, self.weight)
        self.h[column], self.c[column] = lstm_cell(gates, self.c[column - 1])
        return self.h[column] + self.right[column]

    def _start_row(self, row: int) -> None:
        """The right states of the row above, whose inputs are all known now."""
        self.row = row
        self.above = self.h.clone()
        if row == 0:
            return
        above, width = self.right.clone(), len(self.inputs)
        gates = self.inputs @ self.right_weight + self.right_base[row - 1]
        c = self.right[width]
        for column in reversed(range(width)):
            seen = torch.cat([above[column], self.right[column + 1]], 1)
            mixed = torch.addmm(gates[column], seen, self.right_mix)
            self.right[column], c = lstm_cell(mixed, c)
