"""Grid cells: vectors of places that steps rotate and that place cells read."""

import math
from typing import NamedTuple, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.data.arena.place_lattice import PlaceLattice
from gencore.models.grid_cells.names import DecodeBy
from gencore.models.grid_cells.place_readout import decode_place
from gencore.sizes import check_positive

__all__ = ["GridCellLoss", "GridCells", "GridTransform"]


class GridTransform(Protocol):
    """What a step does to vectors, in groups that share a direction."""

    def __call__(self, v: Tensor, distance: Tensor, direction: Tensor, /) -> Tensor:
        """F(v, Δr, θ): [G, ..., K, M], [G, ...], [G] → [G, ..., K, M]."""

    def derivative(self, v: Tensor, direction: Tensor, /) -> Tensor:
        """f_θ(v) = ∂F/∂Δr at Δr = 0: [G, ..., K, M], [G] → [G, ..., K, M]."""


class GridCellLoss(NamedTuple):
    """The objective and its terms, each the mean over the samples of a group, [G]."""

    loss: Tensor
    """What is minimised."""
    basis: Tensor
    """L₀ (5.16), of place fields."""
    transformation: Tensor
    """L₁ (5.17), of steps."""
    isotropy: Tensor
    """L₂ (5.18), in units of the squared longest step."""


class GridCells(nn.Module):
    r"""Vectors v(x) of a lattice's places, in modules, with a transform for steps and a readout.

    .. math:: L &= L_0 + \lambda_1 L_1 + \lambda_2 L_2 + \lambda_u \, E \lVert u(x') \rVert^2 \\
        L_0 &= E \left[A(x, x') - \langle v(x), u(x') \rangle\right]^2 \qquad (5.16) \\
        L_1 &= \sum_k E \lVert v_k(x + \Delta x) - F_k(v(x), \Delta r, \theta) \rVert^2
        \qquad (5.17) \\
        L_2 &= \sum_k E \left[\lVert f_{k,\theta'}(v(x)) \rVert - \lVert f_{k,\theta}(v(x)) \rVert
        \right]^2 \qquad (5.18)

    The linear transform has f_θ(v) = B(θ) v. :meth:`project_` holds the constraints after each
    step of an optimiser: ‖v_k(x)‖ = 1/√K, and u(x') ≥ 0 of excitatory readouts.

    Between places v is interpolated, and each module then scaled to its length: without that, the
    mean of two vectors would be shorter than both, which (5.17) would blame on fast rotations.

    Args:
        lattice: of the places.
        transform: of K modules of M units, such as :class:`LieTransform`.
        num_modules: K.
        module_size: M.
        sigma: width of place fields, in metres.
        excitatory: keep u(x') ≥ 0.
        max_step: the longest step that is learned, in metres.
        spread: standard deviation of the distance between the places of (5.16), in metres.

    Attributes:
        code: v, [n², K, M].
        readout: u, [n², K, M].

    Raises:
        ValueError: for sizes or lengths that are not positive, and a step beyond the square.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, chapter 5; Gao, Xie,
        Wei, Zhu and Wu, "On path integration of grid cells", 2021.

    Example:
        >>> import torch
        >>> from gencore.data import PlaceLattice
        >>> from gencore.models import GridCells, LieTransform
        >>> cells = GridCells(PlaceLattice(10), LieTransform(2, 6), 2, 6, max_step=0.3)
        >>> cells.loss(torch.rand(4) * 6, torch.rand(4, 25, 5), torch.rand(4) * 6).loss.shape
        torch.Size([4])
        >>> cells.decode(cells.encode(torch.tensor([[0.0, 1.0]])), by="code").tolist()
        [[0.0, 1.0]]
    """

    adjacency: Tensor
    meeting: Tensor
    visits: Tensor

    def __init__(
        self,
        lattice: PlaceLattice,
        transform: nn.Module,
        num_modules: int = 16,
        module_size: int = 12,
        *,
        sigma: float = 0.07,
        excitatory: bool = True,
        max_step: float | None = None,
        spread: float = 0.48,
    ) -> None:
        super().__init__()
        check_positive("GridCells", num_modules=num_modules, module_size=module_size)
        self.max_step = 3 * lattice.spacing if max_step is None else max_step
        if not (sigma > 0 and spread > 0 and 0 < self.max_step < lattice.side):
            raise ValueError(
                f"GridCells: sigma is {sigma}, spread {spread}, max_step {self.max_step}; expected "
                f"positive lengths, and steps below the square's side of {lattice.side}"
            )
        self.lattice, self.transform = lattice, transform
        self.num_modules, self.module_size = num_modules, module_size
        self.sigma, self.excitatory, self.spread = sigma, excitatory, spread
        self.code = nn.Parameter(torch.randn(len(lattice), num_modules, module_size))
        self.readout = nn.Parameter(1e-3 * torch.randn(len(lattice), num_modules, module_size))
        # Both factorise over coordinates, so that tables of pairs of places are not needed.
        meeting = lattice.near_pairs(spread)
        tables = {
            "adjacency": lattice.axis_kernel(sigma),
            "meeting": meeting / meeting.sum(1, keepdim=True),
            "visits": meeting.sum(1).cumsum(0),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(self.code.dtype), persistent=False)
        self.project_()

    @torch.no_grad()
    def project_(self) -> None:
        """Scale the modules to length 1/√K, and cut what is negative off an excitatory readout."""
        self.code.copy_(self._scaled(self.code))
        if self.excitatory:
            self.readout.clamp_(min=0)

    def encode(self, x: Tensor) -> Tensor:
        """v(x) of positions [..., 2] in metres, [..., K, M]."""
        return self._scaled(self.lattice.interpolate(self.code, x))

    def respond(self, v: Tensor) -> Tensor:
        """⟨v, u(x')⟩ (5.14), the answers [..., n²] of the place cells to vectors [..., K, M]."""
        return v.flatten(-2) @ self.readout.flatten(1).mT

    def decode(self, v: Tensor, by: DecodeBy = "readout") -> Tensor:
        """The place that vectors [..., K, M] stand for, [..., 2], one of the lattice's: (5.36) by
        the readout, (5.35) by the code."""
        check_choice("GridCells.decode", "by", by, get_args(DecodeBy))
        place = decode_place(v, self.readout if by == "readout" else self.code)
        return self.lattice.positions(dtype=v.dtype, device=v.device)[place]

    def step(self, v: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
        """F(v, Δr, θ) of vectors [G, ..., K, M]; see the transform."""
        moved: Tensor = self.transform(v, distance, direction)
        return moved

    @torch.no_grad()
    def metric(self, direction: Tensor) -> Tensor:
        """μ_k = ‖f_{k,θ}(v(x))‖ / ‖v_k(x)‖ at all places, [G, n², K], in 1/metre, θ [G]."""
        v = self.code.expand(len(direction), -1, -1, -1)
        return self._derivative(v, direction).norm(dim=-1) / v.norm(dim=-1)

    def basis_error(self, place: Tensor) -> Tensor:
        """Σ_x' P(x' | x) [A(x, x') − ⟨v(x), u(x')⟩]² of the places x with these numbers, [...]."""
        flat = place.reshape(-1)
        answer = F.embedding(flat, self.code.flatten(1)) @ self.readout.flatten(1).mT
        error = (self._pairs(self.adjacency, flat) - answer).square()
        return (self._pairs(self.meeting, flat) * error).sum(-1).view(place.shape)

    def loss(
        self,
        direction: Tensor,
        uniform: Tensor,
        other_direction: Tensor,
        *,
        transformation_weight: float = 0.1,
        isotropy_weight: float = 0.1,
        readout_weight: float = 0.0,
    ) -> GridCellLoss:
        """The objective on P samples for each of G directions.

        Args:
            direction: θ [G], in radians.
            uniform: numbers [G, P, 5] in [0, 1) that draw places x of (5.16), lengths of steps and
                where these start.
            other_direction: θ + Δθ [G].
            transformation_weight: λ₁.
            isotropy_weight: λ₂, of speeds f_θ in units of 1/max_step.
            readout_weight: λ_u.

        Raises:
            ValueError: for shapes that do not fit.
        """
        if uniform.ndim != 3 or uniform.shape[::2] != (len(direction), 5):
            raise ValueError(
                f"GridCells.loss: uniform has shape {list(uniform.shape)} for {len(direction)} "
                "directions; expected [G, P, 5]"
            )
        if other_direction.shape != direction.shape:
            raise ValueError(
                f"GridCells.loss: directions have the shapes {list(direction.shape)} and "
                f"{list(other_direction.shape)}; expected [G] twice"
            )
        # The places x' are summed over, which costs a product of matrices and spares most of the
        # noise of drawing them.
        row, column = torch.searchsorted(
            self.visits[:-1], uniform[..., :2].contiguous(), right=True
        ).unbind(-1)
        basis = self.basis_error(row * self.lattice.size + column).mean(1)
        # Even in the disc of steps, and then even where both ends are in the square.
        distance = self.max_step * uniform[..., 2].sqrt()
        heading = torch.stack([direction.cos(), direction.sin()], -1)[:, None]
        move = distance[..., None] * heading
        free = self.lattice.side - move.abs()
        x = (-move).clamp(min=0) + uniform[..., 3:] * free
        v = self.encode(x)
        moved = self.step(v, distance, direction)
        transformation = (self.encode(x + move) - moved).square().sum((-2, -1)).mean(1)
        speed, other = (
            self._derivative(v, angle).norm(dim=-1) for angle in (direction, other_direction)
        )
        isotropy = ((other - speed) * self.max_step).square().sum(-1).mean(1)
        size = self.readout.square().sum() / len(self.lattice)
        loss = (
            basis
            + transformation_weight * transformation
            + isotropy_weight * isotropy
            + readout_weight * size
        )
        return GridCellLoss(loss, basis, transformation, isotropy)

    def _pairs(self, table: Tensor, place: Tensor) -> Tensor:
        """The products over coordinates of a table's rows, [N, n²] for the places [N]."""
        row, column = table[place // self.lattice.size], table[place % self.lattice.size]
        return (row[:, :, None] * column[:, None]).flatten(1)

    def _derivative(self, v: Tensor, direction: Tensor) -> Tensor:
        f: Tensor = self.transform.derivative(v, direction)  # type: ignore[operator]
        return f

    def _scaled(self, v: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        return v * (math.sqrt(self.num_modules) * length).clamp(min=1e-12).reciprocal()

    def extra_repr(self) -> str:
        return f"{self.lattice}, sigma={self.sigma}, excitatory={self.excitatory}"
