"""Fixed permutations of coordinates or channels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.transforms.base import Transform, check_channels, no_log_det

__all__ = ["Permutation"]


class Permutation(FixedBuffers, Transform):
    """A fixed permutation of dimension 1: z[:, i] = x[:, order[i]]; it preserves volume.

    Args:
        order: a permutation of 0, …, D − 1; :meth:`random` and :meth:`reverse` make the usual ones.

    Raises:
        ValueError: if ``order`` is no permutation, and on a call for data of another size.

    Example:
        >>> import torch
        >>> from gencore.nn import Permutation
        >>> Permutation.reverse(3)(torch.tensor([[0.0, 1.0, 2.0]]))[0]
        tensor([[2., 1., 0.]])
    """

    order: Tensor
    inverse_order: Tensor

    def __init__(self, order: Sequence[int] | Tensor) -> None:
        super().__init__()
        with with_values():
            order = torch.as_tensor(order, dtype=torch.int64)
        if order.dim() != 1 or sorted(order.tolist()) != list(range(order.numel())):
            raise ValueError(f"Permutation: {order.tolist()} is not a permutation of 0, …, D - 1")
        self.register_fixed("order", order)
        self.register_fixed("inverse_order", order.argsort())

    @classmethod
    def random(cls, size: int, generator: torch.Generator | None = None) -> "Permutation":
        """A permutation of ``size`` coordinates, uniform among all."""
        with with_values():
            order = torch.randperm(size, generator=generator)
        return cls(order)

    @classmethod
    def reverse(cls, size: int) -> "Permutation":
        """The reversal of ``size`` coordinates, its own inverse."""
        return cls(range(size - 1, -1, -1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels("Permutation", x, self.order.numel())
        return x[:, self.order], no_log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels("Permutation", z, self.order.numel())
        return z[:, self.inverse_order], no_log_det(z)
