"""The one estimate of a squared maximum mean discrepancy, in memory that grows with one set."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gencore.metrics.distances.kernels import GaussianKernel, Kernel
from gencore.ops._support.checks import accumulation_dtype, check_count

__all__ = ["check_two_sets", "squared_discrepancy"]


def squared_discrepancy(
    x: Tensor, y: Tensor, kernel: Kernel, *, unbiased: bool, chunk_size: int
) -> Tensor:
    """‖E φ(x) − E φ(y)‖² of two sets [N, D] and [M, D] that are checked, differentiable.

    Args:
        x, y: the sets.
        kernel: of the feature space.
        unbiased: leave the pairs of a point with itself out.
        chunk_size: number of rows of the matrices of kernel values that are held at a time. The
            backward pass computes them once more, where there are several chunks. Of a Gaussian
            kernel none are held.
    """

    def within(points: Tensor) -> Tensor:
        num, total = len(points), _sum(kernel, points, points, chunk_size)
        if not unbiased:
            return total / num**2
        return (total - _diagonal_sum(kernel, points)) / (num * (num - 1))

    x, y = (points.to(accumulation_dtype(points)) for points in (x, y))
    with torch.autocast(x.device.type, enabled=False):  # it would round the distances away
        across = _sum(kernel, x, y, chunk_size) / (len(x) * len(y))
        return within(x) + within(y) - 2 * across


def check_two_sets(
    owner: str, x: Tensor, y: Tensor, *, unbiased: bool = True, chunk_size: int
) -> None:
    """Raise unless two sets of points can be compared.

    Raises:
        ValueError: for shapes other than [N, D] and [M, D], sets with fewer than two points, or
            one where the estimate is biased, or a chunk size below 1.
        TypeError: the sets are not of one floating dtype.
    """
    least = 2 if unbiased else 1
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"{owner}: the sets have shapes {tuple(x.shape)} and {tuple(y.shape)}; expected [N, D] "
            f"and [M, D] with {'two or more' if unbiased else 'points'} in each"
        )
    if x.dtype != y.dtype or not x.is_floating_point():
        raise TypeError(
            f"{owner}: the sets are {x.dtype} and {y.dtype}; expected one floating dtype"
        )
    check_count(owner, "chunk_size", chunk_size, least=1)


def _sum(kernel: Kernel, x: Tensor, y: Tensor, chunk_size: int) -> Tensor:
    if isinstance(kernel, GaussianKernel):
        return kernel.sum(x, y)

    def total(part: Tensor, y: Tensor) -> Tensor:
        return kernel(part, y).sum()

    parts = x.split(chunk_size)
    if len(parts) == 1 or not torch.is_grad_enabled():
        return torch.stack([total(part, y) for part in parts]).sum()
    sums = [
        checkpoint(total, part, y, use_reentrant=False, preserve_rng_state=False) for part in parts
    ]
    return torch.stack(sums).sum()


def _diagonal_sum(kernel: Kernel, x: Tensor) -> Tensor:
    # Small square blocks, of which only the diagonal is wanted.
    blocks = [kernel(part, part).diagonal().sum() for part in x.split(32)]
    return torch.stack(blocks).sum()
