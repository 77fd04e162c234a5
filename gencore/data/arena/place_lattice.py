"""Place cells: a square lattice of places, and how near to one another they are."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gencore.sizes import check_positive

__all__ = ["PlaceLattice"]


class PlaceLattice:
    r"""n × n places in a square, of which each has a place cell with a Gaussian field.

    .. math:: A(x, x') = \exp\left(-\frac{\lVert x - x' \rVert^2}{2 \sigma^2}\right)

    The outer places lie on the square's border, so that neighbours are h = side/(n − 1) apart.
    Place number i·n + j is at (i h, j h), and a table over places has its rows in this order.

    Args:
        size: n, at least 2.
        side: of the square, in metres.

    Attributes:
        size, side: as given.
        spacing: h.

    Raises:
        ValueError: for fewer than two places a side, or a side that is not positive.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.4.1 and §5.6.

    Example:
        >>> lattice = PlaceLattice(3, side=2.0)
        >>> lattice.positions()[5].tolist(), len(lattice)
        ([1.0, 2.0], 9)
        >>> lattice.nearest(torch.tensor([[0.9, 1.6]])).tolist()
        [5]
    """

    def __init__(self, size: int = 40, side: float = 1.0) -> None:
        check_positive("PlaceLattice", size=size)
        if size < 2 or not 0 < side < math.inf:
            raise ValueError(
                f"PlaceLattice: size is {size} and side {side}; expected at least 2 places a side, "
                "and a positive length"
            )
        self.size, self.side = size, float(side)
        self.spacing = self.side / (size - 1)

    def __len__(self) -> int:
        return self.size**2

    def __repr__(self) -> str:
        return f"PlaceLattice(size={self.size}, side={self.side})"

    def positions(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Tensor:
        """Where the places are, [n², 2], in metres."""
        axis = torch.arange(self.size, dtype=torch.float64) * self.spacing
        return torch.cartesian_prod(axis, axis).to(device, dtype)

    def nearest(self, x: Tensor) -> Tensor:
        """The number of the place next to each position [..., 2], int64 [...]. A position outside
        of the square has the border's."""
        _check_positions("nearest", x)
        node = (x / self.spacing).round().clamp(0, self.size - 1).long()
        return node[..., 0] * self.size + node[..., 1]

    def contains(self, x: Tensor) -> Tensor:
        """Whether each position [..., 2] is in the square, bool [...]."""
        _check_positions("contains", x)
        return ((x >= 0) & (x <= self.side)).all(-1)

    def kernel(self, x: Tensor, places: Tensor, sigma: float) -> Tensor:
        """A(x, x') of positions [..., 2] and [..., 2] that broadcast, [...].

        Args:
            x: positions, in metres.
            places: centres of place fields.
            sigma: σ, their width in metres.
        """
        _check_positions("kernel", x)
        if not sigma > 0:
            raise ValueError(f"PlaceLattice.kernel: sigma is {sigma}; expected a positive width")
        return (-(x - places).square().sum(-1) / (2 * sigma**2)).exp()

    def near_pairs(self, spread: float) -> Tensor:
        r"""How often two places meet that are a normal step apart: P(x, x') ∝ exp(−‖x − x'‖²/2s²).

        So are distributed a place drawn evenly and another a step N(0, s²) away, kept where both
        are in the square.

        Args:
            spread: s, in metres.

        Returns:
            The probabilities p of one coordinate of both, [n, n], float64; the other one is
            independent of it, so that P(x, x') = p(x₁, x₁') p(x₂, x₂').

        Raises:
            ValueError: for a spread that is not positive.
        """
        if not spread > 0:
            raise ValueError(f"PlaceLattice.near_pairs: spread is {spread}; expected positive")
        pairs = self.axis_kernel(spread)
        return pairs / pairs.sum()

    def axis_kernel(self, sigma: float) -> Tensor:
        """The factor of A of one coordinate, [n, n], float64: A(x, x') = a(x₁, x₁') a(x₂, x₂')."""
        axis = torch.arange(self.size, dtype=torch.float64) * self.spacing
        return (-(axis[:, None] - axis).square() / (2 * sigma**2)).exp()

    def interpolate(self, table: Tensor, x: Tensor) -> Tensor:
        """What a table over places has at any position, by bilinear interpolation.

        Args:
            table: a row a place, [n², ...].
            x: positions [..., 2] in the square; those outside have the border's.

        Returns:
            [..., *row].

        Raises:
            ValueError: for a table of another length, or positions that are not pairs.
        """
        _check_positions("interpolate", x)
        if len(table) != len(self):
            raise ValueError(
                f"PlaceLattice.interpolate: the table has {len(table)} rows; expected one a place, "
                f"{len(self)}"
            )
        place = (x / self.spacing).clamp(0, self.size - 1)
        low = place.detach().floor().clamp(max=self.size - 2)
        right, up = (place - low).unbind(-1)
        weights = torch.stack(
            [(1 - right) * (1 - up), (1 - right) * up, right * (1 - up), right * up], -1
        )
        corner = (low[..., 0] * self.size + low[..., 1]).long()
        steps = torch.tensor([0, 1, self.size, self.size + 1], device=x.device)
        rows = F.embedding(corner[..., None] + steps, table.reshape(len(table), -1))
        mean = (weights[..., None, :].to(table.dtype) @ rows).squeeze(-2)
        return mean.view(*x.shape[:-1], *table.shape[1:])


def _check_positions(method: str, x: Tensor) -> None:
    if x.ndim < 1 or x.shape[-1] != 2 or not x.is_floating_point():
        raise ValueError(
            f"PlaceLattice.{method}: positions are {x.dtype} {list(x.shape)}; expected floating "
            "[..., 2]"
        )
