"""Small causal networks that have every kind of step between them."""

import torch
from torch import nn

from gencore.nn import CausalConv2d, CausalConvTranspose2d, MaskedConv2d, PixelInput


class Stack(nn.Module):
    """Masked convolutions with gates, sums and products; of one group of channels or three."""

    def __init__(self, channels=1, width=6, groups=1, outputs=None):
        super().__init__()
        self.input = PixelInput(channels, 4)
        self.first = MaskedConv2d(channels, width, 5, mask="A", channel_groups=groups)
        self.a = MaskedConv2d(width, width, 3, mask="B", channel_groups=groups, dilation=2)
        self.b = MaskedConv2d(width, width, 3, mask="B", channel_groups=groups, bias=False)
        self.last = MaskedConv2d(width, outputs or 4 * channels, 1, mask="B", channel_groups=groups)

    def forward(self, x, context=None):
        h = self.first(self.input(x))
        h = h + torch.tanh(self.a(h)) * torch.sigmoid(self.b(h))
        return self.last(torch.relu(h)) * 0.1


class Scales(nn.Module):
    """Two resolutions, two streams, a border, a context and parts of channels."""

    def __init__(self, channels=1, outputs=4):
        super().__init__()
        self.input = PixelInput(channels, 4, embedding=3, border=True)
        width = self.input.out_channels
        self.above = CausalConv2d(width, 4, (2, 3), last=(-1, 1))
        self.left = CausalConv2d(width, 4, (2, 2), last=(0, -1))
        self.down = CausalConv2d(4, 6, (2, 3), last=(0, 1), stride=2)
        self.down_left = CausalConv2d(8, 6, (2, 2), stride=2)
        self.up = CausalConvTranspose2d(6, 4, (2, 3), crop=1)
        self.up_left = CausalConvTranspose2d(12, 4, (2, 2))
        self.context = nn.Conv2d(2, 4, 3, padding=1)
        self.vector = nn.Linear(2, 6)
        self.mix = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(4, outputs, 1)
        self.elu = nn.ELU()

    def forward(self, x, context):
        numbers = self.input(x)
        above, left = self.above(numbers), self.left(numbers)
        pair = torch.cat([above, left + self.context(context)], 1)
        low = self.down(self.elu(above)) * self.vector(context.mean((2, 3)))[:, :, None, None]
        low_left = self.down_left(torch.cat([pair[:, 4:], -pair[:, :4]], 1))
        above = self.up(low) + above
        left = self.up_left(torch.cat([low, low_left], 1))
        a, b = self.mix(torch.cat([above, left], 1)).chunk(2, dim=1)
        return self.last(a.relu() + torch.nn.functional.elu(b))
