"""The energy distance between two sets of points."""

import torch
from torch import Tensor

from gencore.metrics.distances.discrepancy import check_two_sets, squared_discrepancy
from gencore.metrics.distances.kernels import DistanceKernel

__all__ = ["energy_distance"]


def energy_distance(a: Tensor, b: Tensor, *, batch_size: int = 1024) -> float:
    r"""Energy distance of two samples, without bias.

    .. math:: \frac{2}{N M} \sum_{i,j} \lVert x_i - y_j\rVert
              - \frac{1}{N(N-1)} \sum_{i \ne j} \lVert x_i - x_j\rVert
              - \frac{1}{M(M-1)} \sum_{i \ne j} \lVert y_i - y_j\rVert

    Its expectation is 0 for equal distributions and positive for all others. It has no bandwidth
    and is in the units of the points. It is the squared maximum mean discrepancy of the kernel
    −‖x − y‖; as a loss there is :func:`gencore.objectives.maximum_mean_discrepancy`, with
    :class:`gencore.metrics.DistanceKernel`.

    Args:
        a: points [N, D] with N ≥ 2.
        b: points [M, D] with M ≥ 2.
        batch_size: number of rows of the distances that are held at a time.

    Raises:
        ValueError: the points differ in dimension, or a set has fewer than two.

    Example:
        >>> a = torch.tensor([[0.0], [2.0]])
        >>> energy_distance(a, a + 3)
        2.0

    References:
        Székely and Rizzo, "Energy statistics: a class of statistics based on distances", 2013.
    """
    check_two_sets("energy_distance", a, b, chunk_size=batch_size)
    with torch.no_grad():
        distance = squared_discrepancy(
            a.double(), b.double(), DistanceKernel(), unbiased=True, chunk_size=batch_size
        )
    return distance.item()
