"""Orders of coordinates."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_order"]


def check_order(name: str, order: Sequence[int] | Tensor | None, features: int) -> Tensor:
    """An order as int64 [D]; that of the coordinates where none is given.

    Raises:
        ValueError: it is no permutation of 0, …, D − 1.
    """
    if order is None:
        return torch.arange(features)
    order = torch.as_tensor(order, dtype=torch.int64)
    if order.dim() != 1 or sorted(order.tolist()) != list(range(features)):
        raise ValueError(
            f"{name}: order is {order.tolist()}; expected a permutation of 0, …, {features - 1}"
        )
    return order
