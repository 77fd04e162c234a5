"""Optimal transport on the line: quantiles against quantiles."""

import torch
from torch import Tensor

from gencore.objectives.transport.clouds import check_power, cloud_weights

__all__ = ["wasserstein_1d"]


def wasserstein_1d(
    x: Tensor,
    y: Tensor,
    *,
    p: float = 2,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
) -> Tensor:
    r"""W_p^p of weighted points on the line, exact and differentiable.

    .. math:: \int_0^1 | F_x^{-1}(u) - F_y^{-1}(u) |^p \, du

    Of as many points with equal weights it is the mean of |x_(i) − y_(i)|^p over sorted points.
    Otherwise the integrand is constant between the levels of the two distribution functions.

    Args:
        x: points [..., N].
        y: points [..., M], with the same leading dimensions and dtype.
        p: of the cost |x − y|^p, p ≥ 1. For p = 1 the gradient where points meet is 0.
        x_weights: not negative, with sum 1, [..., N]; 1/N if None. Differentiable.
        y_weights: likewise, [..., M].

    Returns:
        [...], of the dtype of the points, float32 at least.

    Raises:
        ValueError: for other shapes or weights, or p below 1.
        TypeError: for two dtypes, or one that is not floating.

    Source:
        Peyré and Cuturi, "Computational Optimal Transport", 2019, (2.35), (2.36).

    Example:
        >>> import torch
        >>> from gencore.objectives import wasserstein_1d
        >>> wasserstein_1d(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 4.0]), p=1)
        tensor(1.)
        >>> wasserstein_1d(torch.tensor([0.0]), torch.tensor([0.0, 1.0, 2.0]))
        tensor(1.6667)
    """
    owner = "wasserstein_1d"
    if x.dtype != y.dtype or not x.is_floating_point():
        raise TypeError(
            f"{owner}: x and y are {x.dtype} and {y.dtype}; expected one floating dtype"
        )
    if min(x.dim(), y.dim()) < 1 or x.shape[:-1] != y.shape[:-1] or not x.numel() * y.numel():
        raise ValueError(
            f"{owner}: x and y have shapes {list(x.shape)} and {list(y.shape)}; expected [..., N] "
            "and [..., M], not empty"
        )
    check_power(owner, p)
    a = cloud_weights(owner, "x_weights", x_weights, x[..., None])
    b = cloud_weights(owner, "y_weights", y_weights, y[..., None])
    x, x_order = x.to(a.dtype).sort(-1)
    y, y_order = y.to(b.dtype).sort(-1)
    if x_weights is None and y_weights is None and x.shape == y.shape:
        return (x - y).abs().pow(p).mean(-1)
    x_levels = a.gather(-1, x_order).cumsum(-1)
    y_levels = b.gather(-1, y_order).cumsum(-1)
    # Rounded sums of weights may end on either side of 1.
    levels = torch.cat([x_levels, y_levels], -1).sort(-1).values
    lengths = levels.diff(dim=-1, prepend=torch.zeros_like(levels[..., :1]))
    gaps = _quantiles(x, x_levels, levels) - _quantiles(y, y_levels, levels)
    return (lengths * gaps.abs().pow(p)).sum(-1)


def _quantiles(points: Tensor, levels: Tensor, at: Tensor) -> Tensor:
    """The sorted point whose level is the first that is no lower, for each of `at`."""
    index = torch.searchsorted(levels.detach().contiguous(), at.detach().contiguous())
    return points.gather(-1, index.clamp(max=points.shape[-1] - 1))
