"""Models of images for the coder, in whole numbers, and what their streams should be."""

import math

import torch
from torch import nn

from gencore.compression import TOTAL_FREQUENCY


class Uniform(nn.Module):
    """All levels alike; where they do not divide the sum, the first has what is left."""

    def __init__(self, image_shape, levels):
        super().__init__()
        self.image_shape, self.levels = image_shape, levels
        self.positions = math.prod(image_shape)

    def coding_session(self, num, context=None):
        return self

    def frequencies(self, x, begin, end):
        table = torch.full((len(x), end - begin, self.levels), TOTAL_FREQUENCY // self.levels)
        table[..., 0] += TOTAL_FREQUENCY - table[0, 0].sum()
        return table.int()


class Neighbours(Uniform):
    """A level is near the value before it, and near the context if there is one."""

    def __init__(self, image_shape, levels, spread=3):
        super().__init__(image_shape, levels)
        self.context = 0
        self.spread = nn.Buffer(torch.as_tensor(spread))

    def coding_session(self, num, context=None):
        session = Neighbours(self.image_shape, self.levels, self.spread)
        session.context = 0 if context is None else context.view(num, 1, 1)
        return session

    def frequencies(self, x, begin, end):
        values = x.permute(0, 2, 3, 1).flatten(1)
        before = torch.cat([values.new_zeros(len(x), 1), values], 1)[:, begin:end, None]
        distance = (torch.arange(self.levels) - before + self.context).abs()
        weight = 10_000 // (1 + distance**2 // self.spread) + 1
        table = 1 + weight * (TOTAL_FREQUENCY - self.levels) // weight.sum(-1, keepdim=True)
        table[..., :1] += TOTAL_FREQUENCY - table.sum(-1, keepdim=True)
        return table.int()


class Certain(Uniform):
    """Level 0 with all that the others leave."""

    def frequencies(self, x, begin, end):
        table = torch.ones(len(x), end - begin, self.levels, dtype=torch.int32)
        table[..., 0] = TOTAL_FREQUENCY - self.levels + 1
        return table


def walk(num, image_shape, levels, seed=0):
    """Levels that change little from value to value, in the order of coding."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-2, 3, (num, math.prod(image_shape)), generator=generator)
    values = (levels // 2 + steps.cumsum(1)).clamp(0, levels - 1)
    channels, height, width = image_shape
    return values.view(num, height, width, channels).permute(0, 3, 1, 2)


def information(session, x):
    """−log₂ p(x) of all images together."""
    table = session.frequencies(x, 0, session.positions).double()
    values = x.permute(0, 2, 3, 1).flatten(1).unsqueeze(2)
    return -(table.gather(2, values) / TOTAL_FREQUENCY).log2().sum().item()


def stream_by_definition(session, x):
    """The words of a range coder whose lower end has as many digits as there are.

    It narrows [low, low + range) with a range of 64 bits, and moves on by a word when 32 bits of it
    are left; the end is the first number with a last word 0 that lies in the interval whatever
    follows.
    """
    table = session.frequencies(x, 0, session.positions).transpose(0, 1).flatten(0, 1)
    values = x.permute(0, 2, 3, 1).flatten(1).T.flatten()
    low, size, num = 0, 2**64 - 1, 1
    for row, value in zip(table.tolist(), values.tolist(), strict=True):
        unit = size // TOTAL_FREQUENCY
        low, size = low + unit * sum(row[:value]), unit * row[value]
        if size < 2**32:
            low, size, num = low << 32, size << 32, num + 1
    number = -(-low >> 32)
    if low + size >> 32 == number:
        number, num = number << 32, num + 1
    return [number >> 32 * (num - i - 1) & 2**32 - 1 for i in range(num)]
