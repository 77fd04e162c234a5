"""The kernel distance between two sets of features: the squared maximum mean discrepancy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["GaussianKernel", "Kernel", "PolynomialKernel", "kernel_distance"]

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
    """k(x, y) = exp(−‖x − y‖²/(2 bandwidth²)).

    The bandwidth, in units of the features, is the distance below which points count as alike. A
    usual choice is the median distance between points of the data; keep it fixed over the models
    that are compared.

    Raises:
        ValueError: the bandwidth is not positive.

    Example:
        >>> GaussianKernel(2.0)(torch.zeros(1, 2), torch.zeros(1, 2))
        tensor([[1.]])
    """

    bandwidth: float

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(
                f"GaussianKernel: bandwidth = {self.bandwidth}, expected a positive number"
            )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
        return torch.exp(squared.clamp(min=0) / (-2 * self.bandwidth**2))


def kernel_distance(
    a: Tensor,
    b: Tensor,
    kernel: Kernel | None = None,
    features: Features = pixel_features,
    *,
    batch_size: int = 256,
) -> float:
    r"""Squared maximum mean discrepancy of two sets of features, without bias.

    .. math:: \frac{1}{N(N-1)} \sum_{i \ne j} k(x_i, x_j)
              + \frac{1}{M(M-1)} \sum_{i \ne j} k(y_i, y_j)
              - \frac{2}{N M} \sum_{i,j} k(x_i, y_j)

    Its expectation is ‖E φ(x) − E φ(y)‖² in the kernel's feature space, whatever N and M. So two
    values from different numbers of samples can be compared, and for equal distributions about half
    of the values are negative. Report it as "kernel distance on X features", with the kernel; it is
    called KID on the features of :class:`gencore.metrics.InceptionFeatures` with the default
    kernel. KID is often quoted as the mean over subsets; the mean of
    :func:`gencore.metrics.block_interval` estimates the same and gives an interval.

    Args:
        a: Images [N, ...] with N ≥ 2; with the default `features` also a matrix [N, D].
        b: Images [M, ...] with M ≥ 2.
        kernel: A symmetric positive definite kernel; `PolynomialKernel` if None.
        features: Maps images [B, ...] to features [B, D].
        batch_size: Number of rows of the kernel matrices that are held at a time.

    Returns:
        The squared distance, computed in float64.

    Raises:
        ValueError: the features differ in dimension, or a set has fewer than two elements.

    Source:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, "A Kernel Two-Sample Test", 2012, eq. (3);
        Bińkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs", 2018
        (KID).

    Example:
        >>> linear = PolynomialKernel(degree=1, scale=1.0)
        >>> kernel_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [7.0]]), linear)
        23.0
    """
    x, y = (extract_features(images, features).double() for images in (a, b))
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"kernel_distance: features have shape {tuple(x.shape)} and {tuple(y.shape)}, expected "
            "[N, D] and [M, D] with N, M ≥ 2"
        )
    y = y.to(x.device)
    k = PolynomialKernel() if kernel is None else kernel
    within_x = _sum(k, x, x, batch_size) - _diagonal_sum(k, x)
    within_y = _sum(k, y, y, batch_size) - _diagonal_sum(k, y)
    n, m = len(x), len(y)
    across = _sum(k, x, y, batch_size)
    distance = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)
    return float(distance)


def _sum(kernel: Kernel, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    return torch.stack([kernel(part, y).sum() for part in torch.split(x, batch_size)]).sum()


def _diagonal_sum(kernel: Kernel, x: Tensor) -> Tensor:
    # Small square blocks, of which only the diagonal is wanted.
    blocks = [kernel(part, part).diagonal().sum() for part in torch.split(x, 32)]
    return torch.stack(blocks).sum()
