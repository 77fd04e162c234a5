"""The recurrence that LSTMs over images share: a line of pixels from the line before it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.ops.masked_conv2d import live_taps

__all__ = ["InputToState", "lstm_cell", "lstm_scan", "uniform_start"]

Span = tuple[int, int]


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r"""One step of an LSTM.

    .. math:: c' = \sigma(f) \odot c + \sigma(i) \odot \tanh(g), \quad
              h' = \sigma(o) \odot \tanh(c')

    Args:
        gates: o, f, i and g before their activations, [..., 4h] in this order.
        c: the cell's state, [..., h].

    Returns:
        h' and c', [..., h].

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016,
        eq. (3).
    """
    size = c.shape[-1]
    o, f, i = gates[..., : 3 * size].sigmoid().split(size, -1)
    c = torch.addcmul(f * c, i, gates[..., 3 * size :].tanh())
    return o * c.tanh(), c


def lstm_scan(
    gates: Tensor, weight: Tensor, spans: Sequence[Span], offsets: Sequence[int]
) -> Tensor:
    r"""The states of LSTMs whose lines are computed one after another, each as a whole.

    .. math:: h_t(p), c_t(p) = \mathrm{cell}\Big(s_t(p) + \sum_k U_k\, h_{t-1}(p + o_k),\;
              c_{t-1}(p)\Big)

    A line t has the places p from first to last of its span, and states are zero outside of it. So
    a line may be a row, or a diagonal, which is shorter in the corners of an image.

    Args:
        gates: s, [D, P, N, 4h] of D recurrences side by side, with the places of all lines one
            after another; P is the sum of the spans' lengths.
        weight: U, [D, K·h, 4h].
        spans: (first, last + 1) of the places of each line.
        offsets: o_1 … o_K.

    Returns:
        h, [D, P, N, h].
    """
    directions, _, num, width = gates.shape
    size = width // 4
    h = c = gates.new_zeros(directions, 0, num, size)
    before: Span = (spans[0][0], spans[0][0])
    lines = []
    for span, line in zip(spans, gates.split([last - first for first, last in spans], 1)):
        seen = torch.cat([_places(h, before, span, offset) for offset in offsets], -1)
        mixed = torch.baddbmm(line.flatten(1, 2), seen.flatten(1, 2), weight)
        h, c = lstm_cell(mixed.view_as(line), _places(c, before, span, 0))
        lines.append(h)
        before = span
    return torch.cat(lines, 1)


def _places(state: Tensor, before: Span, span: Span, offset: int) -> Tensor:
    """The states [D, P', N, h] at the places of `span` moved by `offset`; zero where there are
    none in `before`."""
    padding = (before[0] - span[0] - offset, span[1] + offset - before[1])
    return state if padding == (0, 0) else functional.pad(state, (0, 0, 0, 0, *padding))


class InputToState(nn.Module):
    r"""The part of the gates that comes from the layer's input: a masked convolution along rows.

    .. math:: s(p) = b + \sum_{k < K} W_k\, x(p - (0, k))

    At the pixel itself (k = 0) the channels of a group see those of the groups up to theirs, in
    each of the gates alike.

    Args:
        in_channels: channels of x.
        channels: h.
        taps: K.
        channel_groups: groups of channels, of x and of each gate.
        directions: D, recurrences that have gates of their own.
    """

    def __init__(
        self, in_channels: int, channels: int, taps: int, channel_groups: int, directions: int = 1
    ) -> None:
        super().__init__()
        self.channel_groups = channel_groups
        # The pixel itself is the last tap.
        self.weight = nn.Parameter(torch.empty(4 * directions, channels, in_channels, 1, taps))
        self.bias = nn.Parameter(torch.empty(4 * directions, channels))
        with torch.no_grad():
            live = self._live()
            bound = live.sum((1, 2, 3)).rsqrt()
            self.weight.uniform_(-1, 1).mul_(bound[:, None, None, None]).mul_(live)
            self.bias.uniform_(-1, 1).mul_(bound)

    def _live(self) -> Tensor:
        """The elements of each gate's weight that are used, [channels, in_channels, 1, taps]."""
        centre = live_taps(self.weight[0, ..., -1:], "B", self.channel_groups)
        return functional.pad(centre, (self.weight.shape[-1] - 1, 0), value=True)

    def masked_weight(self) -> Tensor:
        """W [D·4h, in_channels, 1, K], with zeros where an output does not see."""
        return self.weight.where(self._live(), 0.0).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """s [N, D·4h, H, W] of x [N, in_channels, H, W]."""
        x = functional.pad(x, (self.weight.shape[-1] - 1, 0))
        return functional.conv2d(x, self.masked_weight(), self.bias.flatten())


def uniform_start(directions: int, taps: int, channels: int) -> nn.Parameter:
    """U [D, K·h, 4h], uniform between ±1/√(K·h)."""
    fan = taps * channels
    return nn.Parameter(torch.empty(directions, fan, 4 * channels).uniform_(-1, 1) / fan**0.5)
