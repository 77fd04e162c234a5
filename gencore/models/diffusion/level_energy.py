"""The energy of one level of a diffusion, or of one level a row."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.ops._support.checks import index
from gencore.samplers.energy import energy_and_grad

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
        value: Tensor = self.energy(y, self._levels(y))
        return self._scaled(value)

    def energy_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The energies [N] and their gradients in y, by the network's own `energy_and_grad`, called
        with y and t, where it has one."""
        known = getattr(self.energy, "energy_and_grad", None)
        if known is None:
            return energy_and_grad(self.__call__, y, owner="LevelEnergy")
        value, grad = known(y, self._levels(y))
        return self._scaled(value), self._scaled(grad)

    def _levels(self, y: Tensor) -> Tensor:
        t = self.t
        if not isinstance(t, Tensor):
            return torch.full(y.shape[:1], t, dtype=torch.int64, device=y.device)
        if len(t) != len(y):
            raise ValueError(
                f"LevelEnergy: got {len(y)} points; expected {len(t)}, as many as there are levels"
            )
        return t

    def _scaled(self, value: Tensor) -> Tensor:
        if isinstance(self.factor, Tensor):
            return self.factor.reshape(-1, *(1,) * (value.dim() - 1)) * value
        return value if self.factor == 1 else self.factor * value
