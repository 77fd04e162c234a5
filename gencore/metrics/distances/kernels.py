"""Kernels of feature vectors, of which each names a distance between distributions."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from gencore.metrics.distances.pairwise import pairwise_distances, squared_distances
from gencore.ops import soft_minimum

__all__ = [
    "DistanceKernel",
    "GaussianKernel",
    "InverseMultiquadraticKernel",
    "Kernel",
    "PolynomialKernel",
]

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps feature vectors [N, D] and [M, D] to the matrix of kernel values [N, M]."""


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (scale · xᵀy + constant)^degree; the defaults are the kernel of the KID.

    Args:
        degree: of the polynomial. Degree 1 compares means, degree 2 also covariances, degree 3
            also third moments.
        scale: 1/D if None.
        constant: added to the scaled inner product.

    Raises:
        ValueError: the degree is not positive, or the scale not positive.

    Example:
        >>> PolynomialKernel()(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, -1.0]]))
        tensor([[8.]])
    """

    degree: int = 3
    scale: float | None = None
    constant: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1 or (self.scale is not None and not self.scale > 0):
            raise ValueError(
                f"PolynomialKernel: degree = {self.degree} and scale = {self.scale}; expected "
                "positive numbers"
            )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        scale = 1 / x.shape[1] if self.scale is None else self.scale
        return (x @ y.T * scale + self.constant) ** self.degree


@dataclass(frozen=True)
class GaussianKernel:
    """k(x, y) = Σ_h exp(−‖x − y‖²/(2 h²)), over one or several bandwidths h.

    A bandwidth, in units of the features, is the distance below which points count as alike. A
    usual choice is the median distance between points of the data; keep it fixed over the models
    that are compared.

    Args:
        bandwidth: h, or several.

    Raises:
        ValueError: a bandwidth is not positive, or there is none.

    Example:
        >>> GaussianKernel(2.0)(torch.zeros(1, 2), torch.zeros(1, 2))
        tensor([[1.]])
    """

    bandwidth: float | Sequence[float]

    def __post_init__(self) -> None:
        _check_positive("GaussianKernel", "bandwidth", self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = squared_distances(x, y)
        return _total((squared * (-0.5 / h**2)).exp_() for h in _several(self.bandwidth))

    def sum(self, x: Tensor, y: Tensor) -> Tensor:
        """Σ_ij k(x_i, y_j), without a matrix of the values."""
        zeros = x.new_zeros(len(y))

        def total(epsilon: float) -> Tensor:
            return (-soft_minimum(x, y, zeros, epsilon=epsilon) / epsilon).exp().sum()

        return _total(total(2 * h**2) for h in _several(self.bandwidth))


@dataclass(frozen=True)
class InverseMultiquadraticKernel:
    """k(x, y) = Σ_C C/(C + ‖x − y‖²), over one or several scales C, which keeps gradients from far
    away.

    Args:
        scale: C, in units of squared distances, or several. Of codes against N(0, s² I) in L
            dimensions, Wasserstein autoencoders take those of the default times 2Ls².

    Raises:
        ValueError: a scale is not positive, or there is none.

    Source:
        Tolstikhin, Bousquet, Gelly and Schölkopf, "Wasserstein Auto-Encoders", 2018, §4.

    Example:
        >>> InverseMultiquadraticKernel(1.0)(torch.zeros(1, 1), torch.ones(1, 1))
        tensor([[0.5000]])
    """

    scale: float | Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

    def __post_init__(self) -> None:
        _check_positive("InverseMultiquadraticKernel", "scale", self.scale)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = squared_distances(x, y)
        return _total(c / (c + squared) for c in _several(self.scale))


@dataclass(frozen=True)
class DistanceKernel:
    """k(x, y) = −‖x − y‖, whose squared discrepancy is the energy distance.

    It is positive definite among weights that sum to zero, which is all that a discrepancy needs:
    the kernel ‖x‖ + ‖y‖ − ‖x − y‖, which is positive definite, gives the same discrepancy.

    Source:
        Sejdinovic, Sriperumbudur, Gretton and Fukumizu, "Equivalence of distance-based and
        RKHS-based statistics in hypothesis testing", 2013, §4.

    Example:
        >>> DistanceKernel()(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[-5.]])
    """

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -pairwise_distances(x, y)


def _several(value: float | Sequence[float]) -> Sequence[float]:
    return (value,) if isinstance(value, (int, float)) else value


def _total(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _check_positive(owner: str, name: str, value: float | Sequence[float]) -> None:
    values = _several(value)
    if not values or not all(0 < each < math.inf for each in values):
        raise ValueError(
            f"{owner}: {name} is {value}; expected one positive, finite number, or several"
        )
