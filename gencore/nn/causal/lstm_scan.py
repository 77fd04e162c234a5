"""The recurrence that LSTMs over images share: a line of pixels from the line before it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.ops.masked_conv2d import live_taps
from gencore.sizes import check_positive

__all__ = ["InputToState", "lstm_cell", "lstm_scan", "places_before", "uniform_start"]

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
    before = spans[0]
    lengths = [last - first for first, last in spans]
    h = c = gates.new_zeros(directions, lengths[0], num, size)
    lines = []
    for span, line in zip(spans, gates.split(lengths, 1), strict=True):
        seen = torch.cat([places_before(h, before, span, offset) for offset in offsets], -1)
        mixed = torch.baddbmm(line.flatten(1, 2), seen.flatten(1, 2), weight)
        h, c = lstm_cell(mixed.view_as(line), places_before(c, before, span, 0))
        lines.append(h)
        before = span
    return torch.cat(lines, 1)


def places_before(state: Tensor, before: Span, span: Span, offset: int) -> Tensor:
    """The states [D, P', N, h] at the places of `span` moved by `offset`; zero where there are
    none in `before`."""
    length = span[1] - span[0]
    # Negative padding crops, at most all of them.
    front = min(max(before[0] - span[0] - offset, before[0] - before[1]), length)
    back = length - (before[1] - before[0]) - front
    return state if front == back == 0 else functional.pad(state, (0, 0, 0, 0, front, back))


class InputToState(nn.Module):
    r"""The part of the gates that comes from a layer's input and from the context.

    .. math:: s(p) = b + \sum_{k < K} W_k\, x(p - (0, k)) + V\, \text{context}(p)

    At the pixel itself (k = 0) the channels of a group see those of the groups up to theirs, in
    each of the gates alike: a convolution along the row with mask B.

    Args:
        owner: the name that errors begin with.
        in_channels: channels of x.
        channels: h.
        taps: K.
        channel_groups: groups of channels, of x and of each gate.
        context_channels: channels of the context; 0 for none.
        directions: D, recurrences that have gates of their own.

    Raises:
        ValueError: for sizes that are not positive, or do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.1,
        §3.4 and §3.6.
    """

    def __init__(
        self,
        owner: str,
        in_channels: int,
        channels: int,
        taps: int,
        *,
        channel_groups: int,
        context_channels: int,
        directions: int = 1,
    ) -> None:
        super().__init__()
        check_positive(
            owner, in_channels=in_channels, channels=channels, channel_groups=channel_groups
        )
        if in_channels % channel_groups or channels % channel_groups:
            raise ValueError(
                f"{owner}: channel_groups is {channel_groups}; expected a divisor of in_channels, "
                f"{in_channels}, and of channels, {channels}"
            )
        if context_channels < 0:
            raise ValueError(f"{owner}: context_channels is {context_channels}; expected 0 or more")
        self.owner = owner
        self.in_channels = in_channels
        self.channels = channels
        self.channel_groups = channel_groups
        self.context_channels = context_channels
        # The pixel itself is the last tap.
        self.weight = nn.Parameter(torch.empty(4 * directions, channels, in_channels, 1, taps))
        self.bias = nn.Parameter(torch.empty(4 * directions, channels))
        self.context = (
            nn.Conv2d(context_channels, 4 * directions * channels, 1, bias=False)
            if context_channels
            else None
        )
        with torch.no_grad():
            live = self._live()
            bound = live.sum((1, 2, 3)).rsqrt()
            self.weight.uniform_(-1, 1).mul_(bound[:, None, None, None]).mul_(live)
            self.bias.uniform_(-1, 1).mul_(bound)

    def _live(self) -> Tensor:
        """The elements of each gate's weight that are used, [channels, in_channels, 1, taps]."""
        centre = live_taps(self.weight[0, ..., -1:], "B", self.channel_groups)
        return functional.pad(centre, (self.weight.shape[-1] - 1, 0), value=True)

    def matrix(self) -> Tensor:
        """W [D, K·in_channels, 4h], the pixel itself last, with zeros where an output does not
        see."""
        weight = self.weight.where(self._live(), 0.0).squeeze(3).unflatten(0, (-1, 4))
        return weight.permute(0, 4, 3, 1, 2).flatten(3, 4).flatten(1, 2)

    def forward(self, seen: Tensor) -> Tensor:
        """s [D, P, N, 4h] without the context, of what pixels see: [D, P, N, K·in_channels]."""
        # A product of matrices, in the layout of the recurrence, so that nothing is moved there.
        gates = torch.baddbmm(
            self.bias.view(-1, 1, 4 * self.channels), seen.flatten(1, 2), self.matrix()
        )
        return gates.unflatten(1, seen.shape[1:3])

    def of_context(self, context: Tensor | None) -> Tensor | None:
        """The part of s that comes from the context, [D, H, W, N, 4h]; of a single pixel [D, 1, 1,
        N, 4h]."""
        if (context is None) != (self.context is None):
            expected = f"[N, {self.context_channels}, H, W]" if self.context_channels else "none"
            raise ValueError(
                f"{self.owner}: context is "
                f"{'none' if context is None else list(context.shape)}; expected {expected}"
            )
        if self.context is None:
            return None
        bias: Tensor = self.context(context)
        return bias.unflatten(1, (-1, 4 * self.channels)).permute(1, 3, 4, 0, 2)

    def without_image(self, context: Tensor | None, sides: tuple[int, int]) -> Tensor:
        """The part of s that does not depend on the image, [D, H, W, N or 1, 4h]."""
        bias = self.bias.view(-1, 1, 1, 1, 4 * self.channels)
        of_context = self.of_context(context)
        if of_context is not None:
            bias = bias + of_context
        return bias.expand(-1, *sides, -1, -1)


def uniform_start(directions: int, taps: int, channels: int) -> nn.Parameter:
    """U [D, K·h, 4h], uniform between ±1/√(K·h)."""
    fan = taps * channels
    return nn.Parameter(torch.empty(directions, fan, 4 * channels).uniform_(-1, 1) / fan**0.5)
