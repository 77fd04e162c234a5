"""Smooth fields of displacement, which make of an image the next one of a pair."""

import torch
from torch import Tensor

__all__ = ["draw_deformations", "spline_fields"]


def draw_deformations(
    num: int,
    height: int,
    width: int,
    *,
    grid: int = 4,
    max_displacement: float = 6.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw smooth displacement fields δ: uniform cubic B-splines of a grid of control points, of
    which each component is uniform in ±max_displacement.

    A B-spline stays within its control points, so that |δ| ≤ max_displacement at every pixel along
    each axis; splines that pass through them do not. The pair is I_t and, by `gencore.ops.warp`,

        I_{t+1}(p) = I_t(p + δ(p)).

    Args:
        num: Number of fields N.
        height: H.
        width: W.
        grid: Control points m along each side, at least 4.
        max_displacement: In pixels.
        generator: Of the draws.

    Returns:
        δ in pixels, float32 [N, 2, H, W], to the right in channel 0 and down in channel 1.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.4, the data set V1Deform (m = 4, ±6 pixels), with
        B-splines for its splines.

    Example:
        >>> field = draw_deformations(3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> field.shape, bool(field.abs().max() <= 6)
        (torch.Size([3, 2, 32, 32]), True)
        >>> from gencore.ops import warp
        >>> warp(torch.rand(3, 1, 32, 32), field, padding="border").shape
        torch.Size([3, 1, 32, 32])
    """
    if grid < 4 or max_displacement < 0 or min(num, height, width) < 1:
        raise ValueError(
            f"draw_deformations: num = {num}, height = {height}, width = {width}, grid = {grid}, "
            f"max_displacement = {max_displacement}, expected at least 1, 1, 1, 4 and 0"
        )
    device = None if generator is None else generator.device
    control = 2 * torch.rand(num, 2, grid, grid, generator=generator, device=device) - 1
    return spline_fields(max_displacement * control, height, width)


def spline_fields(control: Tensor, height: int, width: int) -> Tensor:
    """Uniform cubic B-splines of grids of control points, which stay within these.

    Args:
        control: Values at the control points, [N, 2, m, m], m ≥ 4.
        height: H.
        width: W.

    Returns:
        [N, 2, H, W].

    Example:
        >>> bool((spline_fields(torch.ones(1, 2, 4, 4), 8, 8) - 1).abs().max() < 1e-6)
        True
    """
    rows, columns = (
        _basis(side, grid).to(control)
        for side, grid in zip((height, width), control.shape[2:], strict=True)
    )
    return torch.einsum("hi,ncij,wj->nchw", rows, control, columns)


def _basis(num: int, grid: int) -> Tensor:
    """Weight of each control point at `num` places from end to end of the spline, [num, grid]."""
    segments = grid - 3
    places = torch.linspace(0, segments, num, dtype=torch.float64)
    segment = places.floor().clamp(max=segments - 1)
    u = places - segment
    weights = torch.stack(
        [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], 1
    )
    basis = torch.zeros(num, grid, dtype=torch.float64)
    return basis.scatter_(1, segment.long()[:, None] + torch.arange(4), weights / 6)
