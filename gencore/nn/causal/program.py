"""The steps of a causal network as numbers, and the memory of its features."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from gencore.nn.causal.steps import Kind, Part, Step, Steps

if TYPE_CHECKING:
    from gencore.nn.likelihoods import DrawSpec

__all__ = ["Program"]

# Channels of a pixel are filled up to whole vectors, those of the widest registers.
_VECTOR = 16
_DRAWS = {"categorical": 1, "logistic": 2}


def _whole(count: int) -> int:
    return -(-count // _VECTOR) * _VECTOR


class _Memory:
    """Where a map lies: its first pixel and its strides, as PlanMap has them.

    A border of zeros is as wide as the taps of its readers reach. Where these read it at the pixel
    itself alone, all pixels share one place; where they read its row alone, all rows do.
    """

    def __init__(self) -> None:
        self.up = self.left = self.right = 0
        self.one_pixel = self.one_row = True

    def extend(self, down: int, right: int, *, same_pixels: bool) -> None:
        """Notes a reader with this tap."""
        self.up = max(self.up, -down)
        self.left, self.right = max(self.left, -right), max(self.right, right)
        self.one_pixel &= (down, right) == (0, 0) and same_pixels
        self.one_row &= down == 0

    def place(self, origin: int, rows: int, columns: int, channels: int) -> int:
        """Lays it out from `origin` on, and returns where it ends."""
        self.rows = 1 if self.one_row else rows
        self.columns = 1 if self.one_pixel else columns
        self.pixel = 0 if self.one_pixel else _whole(channels)
        width = self.left + self.columns + self.right
        self.row = 0 if self.one_row else width * self.pixel
        self.border = origin
        self.size = (self.up + self.rows, width, _whole(channels))
        self.origin = origin + (self.up * width + self.left) * _whole(channels)
        return origin + self.size[0] * self.size[1] * self.size[2]

    def view(self, state: Tensor) -> Tensor:
        """The map [N, rows, columns, channels filled up], without its border."""
        rows, columns, channels = self.size
        whole = state[:, self.border : self.border + rows * columns * channels]
        inside = whole.view(-1, rows, columns, channels)
        return inside[:, self.up :, self.left : self.left + self.columns]


class Program:
    """The numbers that `pixel_plan_` follows; their order is that of csrc/arguments/pixel_plan.h.

    Args:
        steps: the network.
        image_shape: [C, H, W].
        draw: how levels are drawn.
        channel_groups: lists of steps a pixel.
        keep_all: whether every map is kept whole.

    Attributes:
        steps: as given.
        numbers: int64, on the CPU.
        weights: of all steps.
        levels: L.
    """

    def __init__(
        self,
        steps: Steps,
        image_shape: tuple[int, int, int],
        draw: "DrawSpec | None",
        channel_groups: int,
        *,
        keep_all: bool,
    ) -> None:
        assert steps.output is not None
        if steps.table is None:
            raise ValueError("PixelPlan: the network has no PixelInput")
        self.steps = steps
        self.image_shape = image_shape
        self.levels, self.embedding = steps.table.shape
        self.memory, self.size = _lay_out(steps, image_shape, keep_all)
        weights = _Weights(steps.table)
        lists: list[list[int]] = [[] for _ in range(1 + channel_groups)]
        for step in steps.steps:
            lists[step.list] += _instruction(step, weights)
        kind = 0 if draw is None else _DRAWS[draw.kind]
        components = 0 if draw is None or draw.kind == "categorical" else draw.num_components
        coupled = draw is not None and draw.coupled
        lowest = weights.put_number(0.0 if draw is None else draw.min_log_scale)
        header = [
            *image_shape, self.levels, kind, components, lowest, int(coupled), channel_groups,
            steps.output.map, steps.output.count, steps.input, self.embedding, 0, len(steps.maps),
            self.size,
        ]  # fmt: skip
        numbers = list(header)
        for memory, features in zip(self.memory, steps.maps, strict=True):
            numbers += [memory.origin, memory.row, memory.pixel, max(features.shift, 0)]
        at = len(numbers) + len(lists) + 1
        for steps_of_list in lists:
            numbers.append(at)
            at += len(steps_of_list)
        numbers.append(at)
        for steps_of_list in lists:
            numbers += steps_of_list
        self.numbers = torch.tensor(numbers, dtype=torch.int64)
        self.weights = weights.all()

    def start(self, num: int) -> Tensor:
        """The memory [N, size] of images of which no pixel is known."""
        state = self.weights.new_zeros(num, self.size)
        self.give(state, self.steps.given)
        image = self.steps.maps[self.steps.input]
        levels = self.image_shape[0] * self.embedding
        self.memory[self.steps.input].view(state)[..., levels : image.channels] = 1
        return state

    def give(self, state: Tensor, maps: Sequence[Tensor]) -> None:
        """Writes the maps [N, K, h, w] of what does not depend on the image into its memory."""
        given = (
            (memory, features.channels)
            for memory, features in zip(self.memory, self.steps.maps, strict=True)
            if features.values is not None
        )
        for (memory, channels), values in zip(given, maps, strict=True):
            memory.view(state)[..., :channels].copy_(values.permute(0, 2, 3, 1))

    def read(self, state: Tensor, part: Part) -> Tensor:
        """Features [N, K, h, w]."""
        pixels = self.memory[part.map].view(state)
        return pixels[..., part.first : part.first + part.count].permute(0, 3, 1, 2)


def _lay_out(
    steps: Steps, image_shape: tuple[int, int, int], keep_all: bool
) -> tuple[list[_Memory], int]:
    """The places of all maps, and the memory of an image."""
    memories = [_Memory() for _ in steps.maps]
    for step in steps.steps:
        shift = steps.maps[step.to.map].shift
        for part, down, right in _reads(step):
            same = step.row == step.column == 0 and (
                step.modulus == 1 << max(steps.maps[part.map].shift, 0)
            )
            memories[part.map].extend(down, right, same_pixels=same)
        if step.modulus != 1 << shift:  # written in turns
            memories[step.to.map].one_pixel = False
    size = 0
    for memory, features in zip(memories, steps.maps, strict=True):
        shift = max(features.shift, 0)
        everywhere = features.shift < 0
        whole = keep_all or features.schedule == "given"
        memory.one_row = everywhere or (memory.one_row and not whole)
        if features.schedule == "pixel":
            memory.one_row = memory.one_pixel and memory.one_row
        memory.one_pixel = everywhere or (
            memory.one_pixel and not whole and features.schedule == "pixel"
        )
        _, height, width = image_shape
        size = memory.place(size, height >> shift, width >> shift, features.channels)
    return memories, size


def _reads(step: Step) -> Iterator[tuple[Part, int, int]]:
    for part in step.operands:
        yield part, 0, 0
    for term in step.terms:
        yield term.part, term.down, term.right


class _Weights:
    """All weights in a row, in the order in which they are taken."""

    def __init__(self, table: Tensor) -> None:
        self.pieces = [table.flatten()]
        self.size = table.numel()

    def put(self, piece: Tensor) -> int:
        """Appends it, and returns where it begins."""
        at = self.size
        self.pieces.append(piece.detach().to(self.pieces[0].dtype).flatten())
        self.size += piece.numel()
        return at

    def put_number(self, number: float) -> int:
        return self.put(self.pieces[0].new_tensor([number]))

    def all(self) -> Tensor:
        return torch.cat(self.pieces)


def _instruction(step: Step, weights: _Weights) -> list[int]:
    if step.kind is Kind.CONVOLUTION:
        filling = _whole(step.to.count) - step.to.count
        rows = [functional.pad(term.weight, (0, filling)) for term in step.terms]
        at = weights.put(torch.cat(rows)) if rows else 0
        bias = -1 if step.bias is None else weights.put(functional.pad(step.bias, (0, filling)))
        rest = [at, bias, len(step.terms)]
        for term in step.terms:
            part = term.part
            rest += [part.map, part.first, part.count, term.down, term.right]
    else:
        rest = [number for part in step.operands for number in (part.map, part.first)]
        if step.kind is Kind.SCALE:
            rest.append(weights.put_number(step.number))
    head = [int(step.kind), 8 + len(rest), step.modulus, step.row, step.column]
    return [*head, step.to.map, step.to.first, step.to.count, *rest]
