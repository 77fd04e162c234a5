"""The kernel distance between two sets of features: the squared maximum mean discrepancy."""

from torch import Tensor

from gencore.metrics.distances.discrepancy import check_two_sets, squared_discrepancy
from gencore.metrics.distances.kernels import Kernel, PolynomialKernel
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["kernel_distance"]


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
        >>> import torch
        >>> linear = PolynomialKernel(degree=1, scale=1.0)
        >>> kernel_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [7.0]]), linear)
        23.0
    """
    x, y = (extract_features(images, features).double() for images in (a, b))
    check_two_sets("kernel_distance", x, y, chunk_size=batch_size)
    k = PolynomialKernel() if kernel is None else kernel
    return float(squared_discrepancy(x, y.to(x.device), k, unbiased=True, chunk_size=batch_size))
