"""Several batches in one step, for a player that moves more often than the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from gencore.train.batches import Batch

if TYPE_CHECKING:
    from gencore.train.experiment import BatchSource

__all__ = ["BatchGroups", "split_group"]


class BatchGroups:
    """`num` batches of a source a step, one after another in one; `split_group` has them again.

    So every step of a player sees other data, and each rank its part of each of them.

    Args:
        source: batches by step.
        num: batches in a step.

    Example:
        >>> class Source:
        ...     def __getitem__(self, step):
        ...         return Batch(torch.full((2, 1), step), None, torch.arange(2))
        >>> [part.x.tolist() for part in split_group(BatchGroups(Source(), 3)[1], 3)]
        [[[3], [3]], [[4], [4]], [[5], [5]]]
    """

    def __init__(self, source: "BatchSource", num: int) -> None:
        self._source, self._num = source, num

    def __getitem__(self, step: int) -> Batch:
        group: Sequence[Batch] = [self._source[step * self._num + i] for i in range(self._num)]
        if len(group) == 1:
            return group[0]
        labels = [batch.label for batch in group if batch.label is not None]
        return Batch(
            torch.cat([batch.x for batch in group]),
            torch.cat(labels) if labels else None,
            torch.cat([batch.index for batch in group]),
            group[0].first,
        )


def split_group(batch: Batch, num: int) -> list[Batch]:
    """The `num` batches of a step, each with the number of rows before this rank's."""
    return [
        Batch(part.x, part.label, part.index, batch.first) for part in batch.split(num)
    ]  # fmt: skip
