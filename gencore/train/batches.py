"""Which images a step sees: a pure function of seed and step, the same for any number of ranks."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["BatchOrder", "Batches", "LabelledImages"]

# Images up to this size live on the accelerator for the whole run; larger sets stay in host memory
# and only the batches travel.
_RESIDENT_BYTES = 2**30


class BatchOrder:
    """The indices of each step's batch, in an order that depends on nothing but seed and step.

    The images are shuffled anew for every epoch and the epochs laid end to end; step t takes the
    entries t·B … (t+1)·B − 1 of that sequence, and rank r the r-th equal part of them. So nothing
    is dropped at an epoch's end, B may exceed the number of images, a run resumes from its step
    count alone, and R ranks together see what one process would have seen.

    Args:
        size: number of images N.
        batch_size: B, over all ranks.
        seed: of the shuffles.
        rank: this process, of
        world_size: processes; must divide B.

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
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"BatchOrder: batch_size must be a positive multiple of the {world_size} "
                f"processes that share it, got {batch_size}"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._part = batch_size // world_size
        self._offset = rank * self._part
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """This rank's image indices of step `step` (counted from 0), int64 [B / ranks]."""
        start = step * self.batch_size + self._offset
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


class LabelledImages(NamedTuple):
    """A batch of images and what they show."""

    images: Tensor
    """uint8 [B, C, H, W]."""
    labels: Tensor
    """int64 [B]."""


class Batches:
    """The images of each step's batch, on the run's device; with labels, if there are any.

    Args:
        images: uint8 [N, C, H, W].
        batch_size: over all ranks.
        seed: of the order.
        fabric: the run's processes.
        labels: int64 [N].
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        seed: int,
        fabric: "Fabric",
        labels: Tensor | None = None,
    ) -> None:
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

    def __getitem__(self, step: int) -> Tensor | LabelledImages:
        """This rank's part [B / ranks, C, H, W] of the batch of step `step`, counted from 0."""
        indices = self._order.indices(step).to(self._images.device)
        images = self._images.index_select(0, indices).to(self._device)
        if self._labels is None:
            return images
        return LabelledImages(images, self._labels.index_select(0, indices).to(self._device))
