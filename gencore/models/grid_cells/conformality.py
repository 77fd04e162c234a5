"""How an embedding of the plane stretches it: the metric, and whether it is the same all around."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Conformality", "composition_error", "conformality"]


class Conformality(NamedTuple):
    """What an embedding does to small steps, an entry a position."""

    metric: Tensor
    """JᵀJ, [N, 2, 2]: ‖δv‖² = δxᵀ (JᵀJ) δx."""
    scale: Tensor
    """s, [N]: the root mean square over directions of ‖δv‖ / ‖δx‖."""
    anisotropy: Tensor
    """(σ₁ - σ₂) / (σ₁ + σ₂), [N], of the largest and the least ‖δv‖ / ‖δx‖: 0 where the embedding
    is conformal, 1 where it is blind to a direction."""


def conformality(encode: Callable[[Tensor], Tensor], x: Tensor) -> Conformality:
    r"""The metric that an embedding v(x) gives the plane.

    .. math:: \lVert \delta v \rVert^2 = \delta x^\top J^\top J \, \delta x, \qquad
              J^\top J = s^2 I \iff \lVert f_\theta(v) \rVert \text{ is the same for all } \theta

    The right side is the condition of isotropic scaling, and the equivalence theorem 1: then
    f_0 and f_{π/2} are orthogonal and of equal length s (5.5).

    Args:
        encode: positions [N, 2] → vectors [N, ...], each of its own position.
        x: positions [N, 2], in metres.

    Raises:
        ValueError: for positions that are not pairs.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.2.

    Example:
        >>> import torch
        >>> from gencore.models import conformality
        >>> circle = lambda x: torch.cat([x.cos(), x.sin()], -1)  # a torus, which is flat
        >>> conformality(circle, torch.rand(3, 2)).scale.round(decimals=4)
        tensor([1., 1., 1.])
    """
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"conformality: x has shape {list(x.shape)}; expected [N, 2]")
    jacobian = value_and_jacobian(encode, x)[1]
    metric = jacobian.mT @ jacobian
    stretch = torch.linalg.eigvalsh(metric).clamp(min=0).sqrt()
    least, largest = stretch.unbind(-1)
    scale = (metric.diagonal(dim1=-2, dim2=-1).sum(-1) / 2).sqrt()
    return Conformality(metric, scale, (largest - least) / (largest + least).clamp(min=1e-30))


def composition_error(
    step: Callable[[Tensor, Tensor, Tensor], Tensor], v: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    r"""How far one step is from two that add up to it: condition 1 of a transform.

    .. math:: \lVert F(v, \Delta x_1 + \Delta x_2) - F(F(v, \Delta x_1), \Delta x_2) \rVert
              \qquad (5.2)

    Args:
        step: F(v, Δr, θ): [N, K, M], [N], [N] → [N, K, M].
        v: [N, K, M].
        first: Δx₁ [N, 2], in metres.
        second: Δx₂ [N, 2].

    Returns:
        [N].

    Raises:
        ValueError: for displacements that are not a pair a vector.
    """
    for name, move in (("first", first), ("second", second)):
        if move.shape != (len(v), 2):
            raise ValueError(
                f"composition_error: {name} has shape {list(move.shape)}; expected [{len(v)}, 2]"
            )
    whole = step(v, *polar(first + second))
    parts = step(step(v, *polar(first)), *polar(second))
    return (whole - parts).flatten(1).norm(dim=1)


def value_and_jacobian(encode: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """v(x), [N, D], and its Jacobian, [N, D, 2], of rows that do not depend on one another."""
    # By two reverse passes: forward mode takes seconds to import.
    columns = [
        torch.autograd.functional.jvp(encode, x, axis.expand_as(x))
        for axis in torch.eye(2, dtype=x.dtype, device=x.device)
    ]
    return columns[0][0].flatten(1), torch.stack([column.flatten(1) for _, column in columns], -1)


def polar(move: Tensor) -> tuple[Tensor, Tensor]:
    """Δr and θ of displacements [..., 2]."""
    return move.norm(dim=-1), torch.atan2(move[..., 1], move[..., 0])
