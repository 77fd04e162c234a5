"""The Lie-group transform: a step in space rotates the vector that stands for the place."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["LieTransform", "lie_step"]


def lie_step(v: Tensor, generator: Tensor, distance: Tensor, *, order: int | None = None) -> Tensor:
    r"""Vectors after a step, exactly or by the first terms of the series.

    .. math:: \exp(B \, \Delta r) \, v \approx \sum_{i=0}^{n} \frac{(B \, \Delta r)^i}{i!} \, v
              \qquad (5.9), (5.12)

    The series takes n products of a matrix and a vector, and no power of a matrix is formed. In a
    plane that B turns by φ = |ω| Δr the second order is longer by (1 + φ⁴/4)^½ and ahead by about
    φ³/6.

    Args:
        v: [G, ..., K, M], G groups of vectors of K modules of M units.
        generator: B [G, K, M, M], in 1/metre.
        distance: Δr [G, ...], in metres.
        order: n, or None for the exact exponential.

    Returns:
        [G, ..., K, M].

    Raises:
        ValueError: for shapes that do not fit, and an order below 1.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.3.1.

    Example:
        >>> import torch
        >>> from gencore.models import lie_step
        >>> turn = torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]])  # a quarter of a turn in π/2 metres
        >>> v, distance = torch.tensor([[[1.0, 0.0]]]), torch.tensor([torch.pi / 2])
        >>> lie_step(v, turn, distance).round(decimals=4).abs().tolist()
        [[[0.0, 1.0]]]
    """
    groups, modules, size = generator.shape[0], generator.shape[-3], generator.shape[-1]
    if v.shape[-2:] != (modules, size) or v.shape[0] != groups or distance.shape != v.shape[:-2]:
        raise ValueError(
            f"lie_step: v has shape {list(v.shape)}, generator {list(generator.shape)} and "
            f"distance {list(distance.shape)}; expected [G, ..., K, M], [G, K, M, M] and [G, ...]"
        )
    if order is None:
        middle = [1] * (v.ndim - 3)
        steps = (
            generator.view(groups, *middle, modules, size, size) * distance[..., None, None, None]
        )
        return (torch.linalg.matrix_exp(steps) @ v[..., None]).squeeze(-1)
    check_positive("lie_step", order=order)
    step = distance[..., None, None]
    total = term = v
    for i in range(1, order + 1):
        term = turned(term, generator) * (step / i)
        total = total + term
    return total


def turned(v: Tensor, generator: Tensor) -> Tensor:
    """B v: vectors [G, ..., K, M] by the matrices [G, K, M, M] of their group."""
    flat = v.flatten(1, -3) if v.ndim > 3 else v[:, None]
    return torch.einsum("gpkm,gknm->gpkn", flat, generator).view(v.shape)


class LieTransform(nn.Module):
    r"""v(x + Δx) = exp(B(θ) Δr) v(x), with a learned generator of each direction θ.

    .. math:: v_k(x + \Delta x) = \exp(B_k(\theta) \, \Delta r) \, v_k(x),
              \quad \Delta x = \Delta r \, (\cos\theta, \sin\theta)^\top \qquad (5.9)

    The matrices B = diag(B₁, …, B_K) are kept for a circle of directions and interpolated linearly
    between the two next to θ. With B = −Bᵀ the step is a rotation of each module.

    Vectors come in groups that share a direction, so that few matrices serve many vectors; groups
    of one are the ordinary case.

    Args:
        num_modules: K.
        module_size: M, units of a module.
        num_directions: on the circle.
        order: of the series that steps take, or None for the exact exponential.
        skew: keep B antisymmetric.
        unit: metres; weights are B · unit. About the longest step makes them numbers near 1.
        std: standard deviation of the first weights.

    Attributes:
        weight: the lower triangles of B · unit, [num_directions, K, M (M − 1)/2]; whole matrices
            where B need not be antisymmetric.
        order: as given.

    Shape:
        v [G, ..., K, M], distance Δr [G, ...] in metres, direction θ [G] in radians →
        [G, ..., K, M].

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.3 and §5.6; Gao,
        Xie, Wei, Zhu and Wu, "On path integration of grid cells", 2021.

    Example:
        >>> import torch
        >>> from gencore.models import LieTransform
        >>> transform = LieTransform(2, 6, num_directions=8)
        >>> v = torch.randn(3, 10, 2, 6)  # three directions, ten vectors each
        >>> transform(v, torch.rand(3, 10), torch.rand(3)).shape
        torch.Size([3, 10, 2, 6])
    """

    basis: Tensor

    def __init__(
        self,
        num_modules: int,
        module_size: int,
        *,
        num_directions: int = 144,
        order: int | None = 2,
        skew: bool = True,
        unit: float = 1.0,
        std: float = 1e-3,
    ) -> None:
        super().__init__()
        check_positive(
            "LieTransform",
            num_modules=num_modules, module_size=module_size, num_directions=num_directions,
            order=1 if order is None else order,
        )  # fmt: skip
        if not unit > 0:
            raise ValueError(f"LieTransform: unit is {unit}; expected a positive length")
        self.num_modules, self.module_size = num_modules, module_size
        self.num_directions, self.order, self.skew, self.unit = num_directions, order, skew, unit
        entries = (module_size * (module_size - 1) // 2,) if skew else (module_size, module_size)
        self.weight = nn.Parameter(std * torch.randn(num_directions, num_modules, *entries))
        # A product with fixed matrices expands a triangle faster than indices do.
        self.register_buffer("basis", _skew_basis(module_size), persistent=False)

    def generator(self, direction: Tensor) -> Tensor:
        """B(θ) [G, K, M, M] of directions [G], in 1/metre; between two of the circle's directions
        the line through their matrices."""
        place = direction.detach() * (self.num_directions / (2 * math.pi))
        before = place.floor()
        share = (place - before).to(self.weight.dtype)
        before = before.long()
        pair = torch.stack([before, before + 1], -1) % self.num_directions
        rows = F.embedding_bag(
            pair,
            self.weight.flatten(1),
            per_sample_weights=torch.stack([1 - share, share], -1),
            mode="sum",
        )
        rows = rows.view(len(direction), *self.weight.shape[1:]) / self.unit
        if not self.skew:
            return rows
        size = self.module_size
        return (rows @ self.basis.to(rows.dtype)).unflatten(-1, (size, size))

    def derivative(self, v: Tensor, direction: Tensor) -> Tensor:
        """f_θ(v) = B(θ) v, the change of v a metre (5.8): v [G, ..., K, M], directions [G]."""
        return turned(v, self.generator(direction))

    def forward(self, v: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
        """The vectors after steps; see the class."""
        return lie_step(v, self.generator(direction), distance, order=self.order)

    def extra_repr(self) -> str:
        return (
            f"{self.num_modules}, {self.module_size}, num_directions={self.num_directions}, "
            f"order={self.order}, skew={self.skew}, unit={self.unit:.3g}"
        )


def _skew_basis(size: int) -> Tensor:
    """The antisymmetric matrices with one entry below the diagonal, [M (M − 1)/2, M²]."""
    row, column = torch.tril_indices(size, size, -1)
    number = torch.arange(len(row))
    basis = torch.zeros(len(row), size, size)
    basis[number, row, column] = 1
    basis[number, column, row] = -1
    return basis.flatten(1)
