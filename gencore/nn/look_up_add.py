"""Labels that condition a network: maps of a table, added to its features."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gencore.sizes import check_positive

__all__ = ["LookUpAdd"]


class LookUpAdd(nn.Module):
    r"""Features plus what tables have for their labels, y = x + up(T[label]).

    .. math:: y_n = x_n + \mathrm{up}\bigl(T_1[l_{n1}] \oplus \dots \oplus T_K[l_{nK}]\bigr)

    A row of table k has C/K maps; those of the K tables stand one after the other, ⊕, and are
    enlarged by repetition to the sides of x. The gradient of a row is the sum of those of the
    data points that have its label.

    Args:
        num_labels: rows of the table, or of each of the K independent tables.
        shape: of the maps of all tables together: [C] for vectors, [C, h, w] for features whose
            sides are multiples of h and w. C is a multiple of K.

    Shape:
        [N, *shape], or [N, C, f·h, g·w] with whole f and g, and labels int64 [N], or [N, K]
        → the features' shape.

    Raises:
        ValueError: for sizes that do not fit; on a call, for features or labels of other shapes.
        IndexError: on a call, for a label that a table does not have. On an accelerator, where a
            look at the labels would stop the host, they fail an assertion of the device instead.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, §5.4.1 and table 5.1.

    Example:
        >>> import torch
        >>> from gencore.nn import LookUpAdd
        >>> add = LookUpAdd((3, 5), (4, 2, 2))  # two kinds of labels
        >>> add(torch.zeros(6, 4, 8, 8), torch.zeros(6, 2, dtype=torch.int64)).shape
        torch.Size([6, 4, 8, 8])
    """

    def __init__(self, num_labels: int | Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.num_labels = (num_labels,) if isinstance(num_labels, int) else tuple(num_labels)
        self.shape = tuple(shape)
        tables = len(self.num_labels)
        if not tables or len(self.shape) not in (1, 3) or self.shape[0] % tables:
            raise ValueError(
                f"LookUpAdd: num_labels is {num_labels} and shape {self.shape}; expected [C] or "
                "[C, h, w], with C a multiple of the number of tables"
            )
        check_positive("LookUpAdd", least_labels=min(self.num_labels), least_size=min(self.shape))
        # One table of all rows: those of table k come after the rows of the tables before it.
        values = torch.Size(self.shape).numel() // tables
        self.table = nn.Embedding(sum(self.num_labels), values)
        starts = [0, *torch.tensor(self.num_labels).cumsum(0).tolist()]
        bounds = torch.tensor(list(pairwise(starts)))
        self.starts: Tensor
        self.register_buffer("starts", bounds[:, 0].clone(), persistent=False)
        self.sizes: Tensor
        self.register_buffer("sizes", bounds[:, 1] - bounds[:, 0], persistent=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        rows, tables = len(x), len(self.num_labels)
        labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
        if labels.shape != (rows, tables):
            raise ValueError(
                f"LookUpAdd: labels have shape {list(labels.shape)} for {rows} data points; "
                f"expected {[rows, tables]}"
            )
        sides, own = x.shape[2:], self.shape[1:]
        fits = len(sides) == len(own) and not any(a % b for a, b in zip(sides, own, strict=True))
        if x.shape[1:2] != self.shape[:1] or not fits:
            raise ValueError(
                f"LookUpAdd: features have shape {list(x.shape)}; expected [N, {self.shape[0]}"
                f"{''.join(f', multiple of {side}' for side in own)}]"
            )
        if labels.device.type == "cpu" and self._outside(labels).any():
            raise IndexError(
                f"LookUpAdd: labels are from {int(labels.min())} to {int(labels.max())}; the "
                f"tables have {list(self.num_labels)} rows"
            )
        maps: Tensor = self.table(self._rows(labels)).reshape(rows, *self.shape)
        if sides != own:
            maps = interpolate(maps, size=list(sides), mode="nearest")
        return x + maps

    def _outside(self, labels: Tensor) -> Tensor:
        """Which labels [N, K] their tables do not have."""
        return (labels < 0) | (labels >= self.sizes)

    def _rows(self, labels: Tensor) -> Tensor:
        """Rows of the one table. Labels outside of their own get one that it does not have, so that
        it refuses them, and does not give rows of a neighbour."""
        return (labels + self.starts).where(~self._outside(labels), self.table.num_embeddings)

    def extra_repr(self) -> str:
        return f"num_labels={self.num_labels}, shape={self.shape}"
