"""Integrals of densities on the plane, by the midpoint rule on a square grid."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SquareGrid"]


@dataclass(frozen=True)
class SquareGrid:
    """A square around the origin, cut into size × size cells.

    For densities that are smooth over a cell and vanish at the border the midpoint rule converges
    faster than any power of the cells' side: with a standard deviation of two cells its error is
    below 10⁻¹⁰.

    Args:
        half_width: half of the square's side.
        size: cells along a side.

    Raises:
        ValueError: for a half width or size that is not positive.

    Example:
        >>> grid = SquareGrid(6.0, 50)
        >>> log_p = -0.5 * grid.points().square().sum(1) - math.log(2 * math.pi)
        >>> round(grid.log_integral(log_p), 6), round(grid.entropy(log_p), 4)
        (0.0, 2.8379)
    """

    half_width: float
    size: int

    def __post_init__(self) -> None:
        if not self.half_width > 0 or self.size < 1:
            raise ValueError(
                f"SquareGrid: half_width is {self.half_width} and size {self.size}; expected "
                "positive numbers"
            )

    @property
    def log_cell(self) -> float:
        """Logarithm of a cell's area."""
        return 2 * math.log(2 * self.half_width / self.size)

    def points(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The cells' midpoints, [size², 2], the second coordinate running fastest."""
        steps = torch.arange(self.size, dtype=torch.float64, device=device)
        side = ((2 * steps + 1) / self.size - 1) * self.half_width
        return torch.cartesian_prod(side, side).to(dtype)

    def log_integral(self, log_f: Tensor) -> float:
        """log ∫ f, from log f [size²] at `points`; with f = exp(−E) that is log Z."""
        return torch.logsumexp(log_f.double(), 0).item() + self.log_cell

    def entropy(self, log_p: Tensor) -> float:
        """−∫ p log p, in nats."""
        return -self._expectation(log_p, log_p)

    def kl_divergence(self, log_p: Tensor, log_q: Tensor) -> float:
        """KL(p‖q) = ∫ p (log p − log q), in nats; where p is 0 nothing is added."""
        return self._expectation(log_p, log_p.double() - log_q.double())

    def _expectation(self, log_p: Tensor, values: Tensor) -> float:
        p = log_p.double().exp()
        terms = torch.where(p > 0, p * values.double(), 0.0)
        return terms.sum().item() * math.exp(self.log_cell)
