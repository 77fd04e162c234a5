"""Hexagons: three plane waves a module, an exact solution of the model of grid cells."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gencore.data.arena.place_lattice import PlaceLattice
from gencore.models.grid_cells.lie_transform import lie_step, turned
from gencore.models.grid_cells.names import DecodeBy
from gencore.models.grid_cells.place_readout import decode_place

__all__ = ["HexagonCode"]


class HexagonCode(nn.Module):
    r"""Modules of three plane waves, 2π/3 apart, mixed by a unitary matrix.

    .. math:: e(x) = \left(e^{i \langle a_j, x \rangle}\right)_{j=1,2,3}, \quad v(x) = U e(x), \quad
              B(\theta) = U D(\theta) U^*, \quad
              D(\theta) = \mathrm{diag}\left(i \langle a_j, q(\theta) \rangle\right)

    with q(θ) = (cos θ, sin θ). It solves the linear model exactly and is conformal (theorem 4):
    ‖v_k‖² = 3, ‖B_k(θ) v_k‖² = 3/2 ‖a‖² for every x and θ, so that s = √(3/2) ‖a‖ and
    μ = ‖a‖/√2. The units are hexagon maps, whose fields are 4π/(√3 ‖a‖) apart, and with U of (5.34)
    shifted copies of one another. (The thesis prints B = U*DU; its proof has UDU*, which is right.)

    The M = 6 units of a module are real: the real parts of v_k, then the imaginary parts.

    Args:
        lattice: of the places that vectors are decoded to.
        spacings: of the fields of each module, in metres. One module alone repeats itself in the
            square; two whose spacings have no small common multiple do not.
        orientations: of a₁ of each module, in radians; 0 by default.
        mixing: U, complex [3, 3] and unitary; that of (5.34) by default.
        order: of the series of :meth:`step`, or None for the exact exponential.
        dtype: of positions and vectors, float32 or float64.

    Attributes:
        waves: a_j, [K, 3, 2], in 1/metre.
        mixing: U.
        code: v of the lattice's places, [n², K, 6].

    Raises:
        ValueError: for spacings that are not positive, orientations of another number, and a U that
            is not unitary.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, theorem 4 and §5.A.4.

    Example:
        >>> import torch
        >>> from gencore.data import PlaceLattice
        >>> from gencore.models import HexagonCode
        >>> code = HexagonCode(PlaceLattice(40), [0.3, 0.42])
        >>> v = code.encode(torch.tensor([[0.0, 1.0]]))
        >>> v = code.step(v, torch.tensor([1.0]), torch.tensor([0.0]))  # a metre to the right
        >>> v.shape, code.decode(v).tolist()
        (torch.Size([1, 2, 6]), [[1.0, 1.0]])
    """

    waves: Tensor
    mixing: Tensor
    code: Tensor

    def __init__(
        self,
        lattice: PlaceLattice,
        spacings: Sequence[float],
        orientations: Sequence[float] | None = None,
        *,
        mixing: Tensor | None = None,
        order: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        angles = [0.0] * len(spacings) if orientations is None else list(orientations)
        if not spacings or not min(spacings) > 0 or len(angles) != len(spacings):
            raise ValueError(
                f"HexagonCode: spacings are {list(spacings)} and orientations {angles}; expected "
                "positive lengths, and an angle for each"
            )
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"HexagonCode: dtype is {dtype}; expected float32 or float64")
        unitary = _shifts() if mixing is None else mixing.to(torch.complex128)
        if unitary.shape != (3, 3) or not torch.allclose(
            unitary @ unitary.mH,
            torch.eye(3, dtype=unitary.dtype, device=unitary.device),
            atol=1e-5,
        ):
            raise ValueError("HexagonCode: mixing is not a unitary matrix [3, 3]")
        norm = 4 * math.pi / (math.sqrt(3) * torch.tensor(list(spacings), dtype=torch.float64))
        turn = torch.tensor(angles, dtype=torch.float64)[:, None]
        turn = turn + torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
        waves = norm[:, None, None] * torch.stack([turn.cos(), turn.sin()], -1)
        self.lattice, self.order = lattice, order
        self.register_buffer("waves", waves.to(dtype))
        self.register_buffer("mixing", unitary.to(dtype.to_complex()))
        self.register_buffer("code", self.encode(lattice.positions(dtype=dtype)), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """v(x) of positions [..., 2] in metres, [..., K, 6]."""
        phase = torch.einsum("...c,kjc->...kj", x, self.waves)
        v = torch.polar(torch.ones_like(phase), phase) @ self.mixing.mT
        return torch.cat([v.real, v.imag], -1)

    def generator(self, direction: Tensor) -> Tensor:
        """B(θ) [G, K, 6, 6] of directions [G], antisymmetric, in 1/metre."""
        heading = torch.stack([direction.cos(), direction.sin()], -1)
        speed = torch.einsum("gc,kjc->gkj", heading, self.waves)
        b = self.mixing @ torch.diag_embed(1j * speed) @ self.mixing.mH
        real, imaginary = b.real, b.imag
        return torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)

    def derivative(self, v: Tensor, direction: Tensor) -> Tensor:
        """B(θ) v of vectors [G, ..., K, 6] and directions [G]."""
        return turned(v, self.generator(direction))

    def step(self, v: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
        """exp(B(θ) Δr) v of vectors [G, ..., K, 6], distances [G, ...] and directions [G]."""
        return lie_step(v, self.generator(direction), distance, order=self.order)

    def decode(self, v: Tensor, by: DecodeBy = "code") -> Tensor:
        """The place next to vectors [..., K, 6], [..., 2], by the code (5.35).

        Raises:
            ValueError: for another `by`: hexagons have no readout.
        """
        if by != "code":
            raise ValueError(
                f"HexagonCode.decode: by is {by!r}; expected 'code', the only one here"
            )
        place = decode_place(v, self.code)
        return self.lattice.positions(dtype=v.dtype, device=v.device)[place]

    def extra_repr(self) -> str:
        spacings = 4 * math.pi / (math.sqrt(3) * self.waves[:, 0].norm(dim=-1))
        return f"spacings={[round(s, 4) for s in cast('list[float]', spacings.tolist())]}"


def _shifts() -> Tensor:
    """U of (5.34), whose units are shifted copies of one another."""
    turns = torch.tensor([[0, 0, 0], [0, 1, -1], [0, -1, 1]], dtype=torch.float64)
    return torch.polar(torch.full_like(turns, 3**-0.5), turns * (2 * math.pi / 3))
