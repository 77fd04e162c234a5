"""The energy of one level of a diffusion, or of one level a row."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.ops._support.checks import index

__all__ = ["LevelEnergy"]


@dataclass(frozen=True, eq=False)
class LevelEnergy:
    """The energy y → factor · E(y, t) of a network that is told the level t.

    Args:
        energy: called with y [N, ...] and t, int64 [N]; gives [N].
        t: the level of all rows, or one a row, int64 [N].
        factor: of the network's output, a number or one a row, [N].

    Raises:
        ValueError: on a call with another number of rows than `t` has.

    Example:
        >>> class Quadratic(nn.Module):
        ...     def forward(self, y, t):
        ...         return 0.5 * (1 + t) * y.square().sum(1)
        >>> LevelEnergy(Quadratic(), 1)(torch.ones(2, 3))
        tensor([3., 3.])
    """

    energy: nn.Module
    t: int | Tensor
    factor: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.t, Tensor):
            index("LevelEnergy", "t", self.t)
        elif self.t.dtype != torch.int64 or self.t.dim() != 1:
            raise ValueError(
                f"LevelEnergy: t is {self.t.dtype} of shape {list(self.t.shape)}; expected int64 "
                "[N], a level a row"
            )

    def __call__(self, y: Tensor) -> Tensor:
        t = self.t
        if not isinstance(t, Tensor):
            t = torch.full(y.shape[:1], t, dtype=torch.int64, device=y.device)
        elif len(t) != len(y):
            raise ValueError(
                f"LevelEnergy: got {len(y)} points; expected {len(t)}, as many as there are levels"
            )
        value: Tensor = self.energy(y, t)
        return value if isinstance(self.factor, float) and self.factor == 1 else self.factor * value
