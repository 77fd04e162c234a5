"""Path integration: where an animal is, from its steps alone."""

from typing import Protocol

import torch
from torch import Generator, Tensor

from gencore.models.grid_cells.conformality import polar
from gencore.models.grid_cells.error_correction import drop_units, perturb_units
from gencore.models.grid_cells.names import DecodeBy

__all__ = ["PlaceCode", "integrate_path"]


class PlaceCode(Protocol):
    """Vectors of positions, what steps do to them, and where they say that the animal is."""

    def encode(self, x: Tensor) -> Tensor:
        """v(x): positions [N, 2] → [N, K, M]."""

    def step(self, v: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
        """F(v, Δr, θ): [N, K, M], [N], [N] → [N, K, M]."""

    def decode(self, v: Tensor, by: DecodeBy = ...) -> Tensor:
        """Places [N, 2] of [N, K, M]."""


@torch.no_grad()
def integrate_path(
    code: PlaceCode,
    path: Tensor,
    *,
    reencode: bool = False,
    by: DecodeBy = "code",
    alpha: float = 0.0,
    dropout: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    r"""The places that a code decodes along paths, of which it sees the start and the steps.

    .. math:: v_t = F(v_{t-1}, \Delta r_t, \theta_t), \quad v_0 = v(x_0), \qquad
              \hat x_t = \arg\max_{x'} \langle v_t, u(x') \rangle \qquad (5.11), (5.15)

    With re-encoding each step starts at the place that was decoded, v_t ← v(x̂_t). That takes the
    noise off, and rounds to the lattice: of steps that are no lattice steps the roundings add up
    to h √(T/6), a root mean square, after T steps on a lattice of spacing h.

    Args:
        code: :class:`GridCells`, :class:`HexagonCode` or alike.
        path: positions [N, T + 1, 2] in metres, the start first.
        reencode: v_t ← v(x̂_t) after every step.
        by: what decodes; see `DecodeBy`.
        alpha: noise of units in every step, as of :func:`perturb_units`.
        dropout: share of units that every step loses, as of :func:`drop_units`.
        generator: of the noise.

    Returns:
        x̂ [N, T, 2], of the times 1 to T.

    Raises:
        ValueError: for paths of another shape or without a step.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.6.2 and §5.B.3.

    Example:
        >>> import torch
        >>> from gencore.data import PlaceLattice, lattice_walks
        >>> from gencore.models import HexagonCode, integrate_path
        >>> lattice = PlaceLattice(20)
        >>> walk = lattice_walks(lattice, 5, 30)
        >>> found = integrate_path(HexagonCode(lattice, [0.4, 0.57]), walk)
        >>> found.sub(walk[:, 1:]).abs().max().item()
        0.0
    """
    if path.ndim != 3 or path.shape[2] != 2 or path.shape[1] < 2:
        raise ValueError(
            f"integrate_path: path has shape {list(path.shape)}; expected [N, T + 1, 2], T ≥ 1"
        )
    v = code.encode(path[:, 0])
    found = []
    for move in path.diff(dim=1).unbind(1):
        v = code.step(v, *polar(move))
        if alpha:
            v = perturb_units(v, alpha, generator=generator)
        if dropout:
            v = drop_units(v, dropout, generator=generator)
        place = code.decode(v, by)
        if reencode:
            v = code.encode(place)
        found.append(place)
    return torch.stack(found, 1)
