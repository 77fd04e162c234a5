"""``pixel_plan_`` in pure PyTorch: what the compiled loops do, one instruction after another."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["reference"]

_TOTAL = 2**24


class _Header(NamedTuple):
    channels: int
    height: int
    width: int
    levels: int
    draw: int
    components: int
    lowest: int
    coupled: int
    steps: int
    parameters_map: int
    parameters: int
    input_map: int
    embedding: int
    table: int
    maps: int
    image_size: int


class _Run:
    """A program at work on some images."""

    def __init__(self, program: Tensor, weights: Tensor, state: Tensor, x: Tensor) -> None:
        self.numbers: list[int] = program.tolist()
        size = len(_Header._fields)
        self.header = h = _Header(*self.numbers[:size])
        self.maps = [self.numbers[size + 4 * k : size + 4 * k + 4] for k in range(h.maps)]
        at = size + 4 * h.maps
        self.lists = self.numbers[at : at + h.steps + 2]
        self.weights, self.state, self.x = weights, state, x

    def at(self, number: int, y: int, x: int, down: int = 0, right: int = 0) -> int:
        origin, row, pixel, shift = self.maps[number]
        return origin + ((y >> shift) + down) * row + ((x >> shift) + right) * pixel

    def view(self, number: int, first: int, count: int, y: int, x: int, *tap: int) -> Tensor:
        begin = self.at(number, y, x, *tap) + first
        return self.state[:, begin : begin + count]

    def instructions(self, number: int) -> Iterator[list[int]]:
        at = self.lists[number]
        while at < self.lists[number + 1]:
            yield self.numbers[at : at + self.numbers[at + 1]]
            at += self.numbers[at + 1]

    def row(self, y: int) -> None:
        for step in self.instructions(0):
            modulus, row, column = step[2:5]
            if y % modulus == row:
                for x in range(column, self.header.width, modulus):
                    self.execute(step, y, x)

    def pixel(self, number: int, y: int, x: int) -> None:
        for step in self.instructions(1 + number):
            modulus, row, column = step[2:5]
            if y % modulus == row and x % modulus == column:
                self.execute(step, y, x)

    def execute(self, step: list[int], y: int, x: int) -> None:
        kind, to, first, count, rest = step[0], step[5], step[6], step[7], step[8:]
        out = self.view(to, first, count, y, x)
        if kind == 0:
            out.copy_(self.convolve(rest, count, y, x))
            return
        a = self.view(rest[0], rest[1], count, y, x)
        wide = a.double()
        match kind:
            case 1:
                result = a
            case 2:
                result = a * self.weights[rest[2]]
            case 3:
                result = a.relu()
            case 4:
                result = torch.where(a > 0, wide, wide.clamp(max=0).expm1())
            case 5:
                result = wide.tanh()
            case 6:
                result = wide.sigmoid()
            case 7:
                result = a + self.view(rest[2], rest[3], count, y, x)
            case _:
                result = a * self.view(rest[2], rest[3], count, y, x)
        out.copy_(result)

    def convolve(self, rest: list[int], count: int, y: int, x: int) -> Tensor:
        columns = -(-count // 16) * 16
        at, bias, terms = rest[:3]
        total = self.state.new_zeros(len(self.state), count)
        if bias >= 0:
            total += self.weights[bias : bias + count]
        for k in range(terms):
            number, first, inputs, down, right = rest[3 + 5 * k : 8 + 5 * k]
            weight = self.weights[at : at + inputs * columns].view(inputs, columns)[:, :count]
            total += self.view(number, first, inputs, y, x, down, right) @ weight
            at += inputs * columns
        return total

    def enter(self, t: int) -> None:
        h = self.header
        y, x, channel = self.place(t)
        level = self.x[:, channel, y, x].clamp(0, h.levels - 1)
        size = h.levels * h.embedding
        table = self.weights[h.table : h.table + size].view(h.levels, h.embedding)
        to = self.view(h.input_map, channel * h.embedding, h.embedding, y, x)
        to.copy_(table[level])

    def place(self, t: int) -> tuple[int, int, int]:
        pixel, channel = divmod(t, self.header.channels)
        return (*divmod(pixel, self.header.width), channel)

    def pixel_parameters(self, y: int, x: int) -> Tensor:
        return self.view(self.header.parameters_map, 0, self.header.parameters, y, x)

    # The distribution of a level.

    def weights_of(self, y: int, x: int, channel: int) -> Tensor:
        """Probabilities of the levels [N, L], up to a factor."""
        h = self.header
        parameters = self.pixel_parameters(y, x).double()
        if h.draw == 1:
            return parameters[:, channel * h.levels : (channel + 1) * h.levels].softmax(1)
        shares = parameters[:, : h.components]
        for c in range(channel):
            bins = self.bins(parameters, y, x, c)
            shares = (
                shares
                + bins.gather(2, self.x[:, c, y, x, None, None].expand_as(bins[..., :1]))[
                    ..., 0
                ].log()
            )
        return (shares.softmax(1).unsqueeze(2) * self.bins(parameters, y, x, channel)).sum(1)

    def bins(self, parameters: Tensor, y: int, x: int, channel: int) -> Tensor:
        """Probabilities [N, M, L] of the levels in each component."""
        mean, log_scale = self.logistics(parameters, y, x, channel)
        edges = self.scaled(torch.arange(self.header.levels - 1, device=mean.device) + 0.5)
        below = torch.sigmoid((edges - mean.unsqueeze(2)) * (-log_scale.unsqueeze(2)).exp())
        ends = torch.zeros_like(below[..., :1]), torch.ones_like(below[..., :1])
        return torch.cat([ends[0], below, ends[1]], 2).diff(dim=2)

    def logistics(self, parameters: Tensor, y: int, x: int, channel: int) -> tuple[Tensor, Tensor]:
        h = self.header
        blocks = parameters.view(len(parameters), -1, h.components)
        mean = blocks[:, 1 + channel]
        for j in range(channel if h.coupled else 0):
            factor = blocks[:, 1 + 2 * h.channels + channel * (channel - 1) // 2 + j].tanh()
            mean = mean + factor * self.scaled(self.x[:, j, y, x, None])
        return mean, blocks[:, 1 + h.channels + channel].clamp(min=float(self.weights[h.lowest]))

    def scaled(self, level: Tensor) -> Tensor:
        return level.double() * (2 / (self.header.levels - 1)) - 1

    def drawn(self, y: int, x: int, channel: int, uniforms: Tensor) -> Tensor:
        h = self.header
        if h.draw == 1:
            u = uniforms[:, channel, y, x].double()
            return _invert(self.weights_of(y, x, channel), u)
        parameters = self.pixel_parameters(y, x).double()
        mean, log_scale = self.logistics(parameters, y, x, channel)
        chosen = _invert(
            parameters[:, : h.components].softmax(1), uniforms[:, 0, y, x].double()
        ).unsqueeze(1)
        u = uniforms[:, 1 + channel, y, x].double().clamp(min=2.0**-25)
        where = mean.gather(1, chosen)[:, 0] + log_scale.gather(1, chosen)[:, 0].exp() * u.logit()
        return ((where + 1) / 2 * (h.levels - 1) + 0.5).floor().clamp(0, h.levels - 1).long()


def _invert(weights: Tensor, u: Tensor) -> Tensor:
    cumulative = weights.cumsum(1)
    index = (cumulative <= (u * cumulative[:, -1]).unsqueeze(1)).sum(1)
    return index.clamp(max=weights.shape[1] - 1)


def _frequencies(weights: Tensor) -> Tensor:
    spread = _TOTAL - weights.shape[1]
    cumulative = weights.cumsum(1)
    until = (cumulative / cumulative[:, -1:] * spread).floor().cummax(1)[0]
    until[:, -1] = spread
    return (until.diff(dim=1, prepend=torch.zeros_like(until[:, :1])) + 1).to(torch.int32)


def reference(
    program: Tensor,
    weights: Tensor,
    state: Tensor,
    x: Tensor,
    uniforms: Tensor | None,
    known: Tensor | None,
    parameters: Tensor | None,
    frequencies: Tensor | None,
    begin: int,
    end: int,
) -> None:
    """Follows the program at positions [begin, end)."""
    run = _Run(program, weights, state, x)
    for t in range(begin, end):
        row, column, channel = run.place(t)
        if t == begin and t > 0:
            run.enter(t - 1)
        if channel == column == 0:
            run.row(row)
        if channel < run.header.steps:
            run.pixel(channel, row, column)
        if parameters is not None and channel == run.header.steps - 1:
            parameters[:, :, row, column] = run.pixel_parameters(row, column)
        if uniforms is not None:
            level = run.drawn(row, column, channel, uniforms)
            at = (slice(None), channel, row, column)
            x[at] = level if known is None else torch.where(known[at], x[at], level)
        if frequencies is not None:
            frequencies[:, t - begin] = _frequencies(run.weights_of(row, column, channel))
        run.enter(t)
