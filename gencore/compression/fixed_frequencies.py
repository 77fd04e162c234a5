"""Values whose frequencies are known before the first of them is."""

import torch
from torch import Tensor

from gencore.compression.session import TOTAL_FREQUENCY, LevelFrequencies

__all__ = ["FixedFrequencies", "uniform"]


class FixedFrequencies(LevelFrequencies):
    """A session of independent values.

    Args:
        table: int32 [levels], or [N, positions, levels], each row positive and of the sum
            `TOTAL_FREQUENCY`.
        positions: values of an image.
    """

    def __init__(self, table: Tensor, positions: int) -> None:
        self.table = table
        self.levels, self.positions = table.shape[-1], positions

    def frequencies(self, x: Tensor, begin: int, end: int) -> Tensor:
        """The table, [N, end − begin, levels]."""
        table = self.table.expand(len(x), self.positions, -1)
        return table[:, begin:end].to(x.device)


def uniform(levels: int, positions: int) -> FixedFrequencies:
    """A session of values that are all alike; where they do not divide the sum, the first one has
    what is left.

    Example:
        >>> uniform(3, 1).table
        tensor([5592406, 5592405, 5592405], dtype=torch.int32)
    """
    table = torch.full((levels,), TOTAL_FREQUENCY // levels, dtype=torch.int32)
    table[0] += TOTAL_FREQUENCY % levels
    return FixedFrequencies(table, positions)
