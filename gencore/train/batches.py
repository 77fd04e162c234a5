"""Which data a step sees: a pure function of seed and step, the same for any number of ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gencore.ops import philox_normal, random_key
from gencore.ops.random import philox_uniform

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset

__all__ = ["Batch", "BatchOrder", "ImageBatches", "rank_part"]

# Images up to this size live on the accelerator for the whole run; larger sets stay in host memory
# and only the batches travel.
_RESIDENT_BYTES = 2**30


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """One rank's rows of a step's batch, and the noise that belongs to them.

    Noise comes from a key that all ranks share and from the rows' numbers in the whole batch, so
    that every rank draws its part of what one process would draw, and a part of a batch its part of
    the whole. A plain `torch.randn` gives all ranks the same numbers.

    Example:
        >>> import torch
        >>> from gencore.ops import random_key
        >>> whole, key = Batch(torch.zeros(6, 2), None, torch.arange(6)), random_key()
        >>> first, second = whole.split(2)
        >>> second.first, torch.equal(second.normal(key=key), whole.normal(key=key)[3:])
        (3, True)
    """

    x: Tensor
    """Data points [B, ...] on the run's device; images are uint8 [B, C, H, W]."""

    label: Tensor | None
    """Their classes, int64 [B], if the data have any."""

    index: Tensor
    """Their rows in the data set, int64 [B]; of data drawn anew in each step, running numbers."""

    first: int = 0
    """Number of rows of the whole batch before these, on lower ranks and in earlier parts."""

    def __len__(self) -> int:
        return len(self.x)

    def split(self, parts: int) -> list["Batch"]:
        """The rows in as many parts, whose sizes differ by one at most; none is empty.

        Raises:
            ValueError: `parts` is not positive.
        """
        if parts < 1:
            raise ValueError(f"Batch.split: parts is {parts}; expected a positive number")
        bounds = [len(self) * i // parts for i in range(parts + 1)]
        return [
            Batch(
                self.x[start:end],
                None if self.label is None else self.label[start:end],
                self.index[start:end],
                self.first + start,
            )
            for start, end in pairwise(bounds)
            if start < end
        ]

    def normal(self, shape: Sequence[int] | None = None, *, key: Tensor | None = None) -> Tensor:
        """N(0, 1) noise [B, *shape] of the rows, float32; without a shape, of that of x.

        Args:
            shape: of one row's noise.
            key: int64 [seed, offset]; by default drawn from torch's default generator.
        """
        size, key, first_element = self._stream(shape, key)
        return philox_normal(size, key, first_element=first_element)

    def uniform(self, shape: Sequence[int] | None = None, *, key: Tensor | None = None) -> Tensor:
        """U[0, 1) noise [B, *shape] of the rows, float32, as `normal`."""
        size, key, first_element = self._stream(shape, key)
        return philox_uniform(size, key, first_element=first_element)

    def _stream(
        self, shape: Sequence[int] | None, key: Tensor | None
    ) -> tuple[list[int], Tensor, int]:
        shape = self.x.shape[1:] if shape is None else shape
        key = random_key(device=self.x.device) if key is None else key
        return [len(self), *shape], key, self.first * math.prod(shape)


def rank_part(batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """The rows of a batch that are a rank's: their number, and that of the rows before them.

    Raises:
        ValueError: the ranks cannot share the batch equally.
    """
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size must be a positive multiple of the {world_size} processes that share it, "
            f"got {batch_size}"
        )
    part = batch_size // world_size
    return part, rank * part


class BatchOrder:
    """The indices of each step's batch, in an order that depends on nothing but seed and step.

    The data are shuffled anew for every epoch and the epochs laid end to end; step t takes the
    entries t·B … (t+1)·B − 1 of that sequence, and rank r the r-th equal part of them. So nothing
    is dropped at an epoch's end, B may exceed the number of data points, a run resumes from its
    step count alone, and R ranks together see what one process would have seen.

    Args:
        size: number of data points N.
        batch_size: B, over all ranks.
        seed: of the shuffles.
        rank: this process, of
        world_size: processes; must divide B.

    Attributes:
        first: number of rows of a batch before this rank's.

    Example:
        >>> whole = BatchOrder(10, 4, seed=0)
        >>> halves = [BatchOrder(10, 4, seed=0, rank=r, world_size=2) for r in range(2)]
        >>> bool((torch.cat([half.indices(7) for half in halves]) == whole.indices(7)).all())
        True
    """

    def __init__(
        self, size: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if size < 1:
            raise ValueError("BatchOrder: the data set is empty")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._part, self.first = rank_part(batch_size, rank, world_size)
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """This rank's indices of step `step` (counted from 0), int64 [B / ranks]."""
        start = step * self.batch_size + self.first
        parts, taken = [], 0
        while taken < self._part:
            epoch, position = divmod(start + taken, self.size)
            part = self._shuffled(epoch)[position : position + self._part - taken]
            parts.append(part)
            taken += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            # The pair as entropy: with seed + epoch, neighbouring seeds would share their epochs.
            order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._epoch, self._permutation = epoch, torch.from_numpy(order)
        return self._permutation


class ImageBatches:
    """The images of each step's batch, on the run's device.

    Args:
        dataset: the images, and their labels if there are any.
        batch_size: over all ranks.
        seed: of the order.
        fabric: the run's processes.
    """

    def __init__(
        self, dataset: "ImageDataset", batch_size: int, seed: int, fabric: "Fabric"
    ) -> None:
        images, labels = dataset.images, dataset.labels
        self._order = BatchOrder(
            len(images),
            batch_size,
            seed=seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        self._device = fabric.device
        self._images = images.to(fabric.device) if images.nbytes <= _RESIDENT_BYTES else images
        self._labels = None if labels is None else labels.to(self._images.device)

    def __getitem__(self, step: int) -> Batch:
        """This rank's part of the batch of step `step`, counted from 0."""
        index = self._order.indices(step).to(self._images.device)
        x = self._images.index_select(0, index).to(self._device)
        label = None
        if self._labels is not None:
            label = self._labels.index_select(0, index).to(self._device)
        return Batch(x, label, index.to(self._device), self._order.first)
