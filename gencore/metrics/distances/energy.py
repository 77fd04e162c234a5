"""The energy distance between two sets of points."""

import torch
from torch import Tensor

__all__ = ["energy_distance"]


def energy_distance(a: Tensor, b: Tensor, *, batch_size: int = 1024) -> float:
    r"""Energy distance of two samples, without bias.

    .. math:: \frac{2}{N M} \sum_{i,j} \lVert x_i - y_j\rVert
              - \frac{1}{N(N-1)} \sum_{i \ne j} \lVert x_i - x_j\rVert
              - \frac{1}{M(M-1)} \sum_{i \ne j} \lVert y_i - y_j\rVert

    Its expectation is 0 for equal distributions and positive for all others. It has no bandwidth
    and is in the units of the points.

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
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"energy_distance: got points of shape {list(a.shape)} and {list(b.shape)}; expected "
            "[N, D] and [M, D] with two or more in each"
        )
    a, b = a.double(), b.double()

    def total(x: Tensor, y: Tensor) -> float:
        return sum(torch.cdist(part, y).sum().item() for part in x.split(batch_size))

    n, m = len(a), len(b)
    between = 2 * total(a, b) / (n * m)
    return between - total(a, a) / (n * (n - 1)) - total(b, b) / (m * (m - 1))
