"""Frequencies by exact arithmetic, from networks that are not compiled."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from gencore.compression.exact_arithmetic import exact_arithmetic, frequencies_of_logits
from gencore.compression.session import LevelFrequencies

__all__ = ["ImageSession", "VectorSession", "VectorSteps"]


class VectorSteps(Protocol):
    """What is used of `gencore.models.AutoregressiveVectorModel`."""

    features: int
    levels: int
    order: Tensor

    def inputs(self, x: Tensor) -> Tensor:
        """The numbers that the network sees of levels."""

    def steps(self, u: Tensor) -> Iterator[Tensor]:
        """The logits [N, 1 or levels] of one coordinate after another in the order, of inputs
        u [N, D] that are filled in between."""


class ImageSession(LevelFrequencies):
    """One pass for all positions that are asked for at a time: none sees what comes later.

    Args:
        model: the `exact_copy` of an `AutoregressiveImageModel` with a `Categorical` likelihood.
        context: what it is given, of multiples of 2⁻¹⁶.
    """

    def __init__(self, model: Any, context: Tensor | None) -> None:
        self.model, self.context = model, context
        self.channels, height, width = model.image_shape
        self.levels = int(model.likelihood.levels)
        self.positions = self.channels * height * width
        self._pixel, self._logits = -1, torch.empty(0)

    def frequencies(self, x: Tensor, begin: int, end: int) -> Tensor:
        pixel = (
            begin // self.channels if end == begin + 1 and self.model.channel_groups == 1 else -1
        )
        if pixel < 0 or pixel != self._pixel:
            with exact_arithmetic("ExactModel"):
                parameters = self.model(x.cpu(), self.context)
            # [N, C·L, H, W] → [N, H·W·C, L]
            logits = parameters.unflatten(1, (self.channels, self.levels)).permute(0, 3, 4, 1, 2)
            self._pixel, self._logits = pixel, logits.flatten(1, 3)
        return frequencies_of_logits(self._logits[:, begin:end])


class VectorSession(LevelFrequencies):
    """The model's own steps, a coordinate each, on both sides; values come in the model's order.

    Args:
        model: the `exact_copy` of one.
    """

    def __init__(self, model: VectorSteps) -> None:
        self.model = model
        self.levels, self.positions = model.levels, model.features
        self._order = model.order.tolist()
        self._u = torch.empty(0)
        self._steps: Iterator[Tensor] = iter(())

    def frequencies(self, x: Tensor, begin: int, end: int) -> Tensor:
        values = x.cpu().permute(0, 2, 3, 1).flatten(1)
        rows = []
        with exact_arithmetic("ExactModel"):
            if begin == 0:
                self._u = self.model.inputs(torch.zeros_like(values))
                self._steps = self.model.steps(self._u)
            for place in range(begin, end):
                # The steps see a coordinate when the next one is asked for.
                if place:
                    self._u[:, self._order[place - 1]] = self.model.inputs(values[:, place - 1])
                logits = next(self._steps)
                if self.levels == 2:
                    logits = torch.cat([torch.zeros_like(logits), logits], 1)
                rows.append(logits)
        return frequencies_of_logits(torch.stack(rows, 1))
