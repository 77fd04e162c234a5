"""The squared maximum mean discrepancy of two batches, as a loss."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice

__all__ = ["MMDKernel", "maximum_mean_discrepancy"]

MMDKernel = Literal["inverse_multiquadratic", "gaussian"]


def maximum_mean_discrepancy(
    x: Tensor,
    y: Tensor,
    *,
    kernel: MMDKernel = "inverse_multiquadratic",
    scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
) -> Tensor:
    r"""An unbiased estimate of ‖E φ(x) − E φ(y)‖² in the feature space of a kernel, differentiable.

    .. math:: \frac{1}{N(N-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{M(M-1)} \sum_{i \ne j}
              k(y_i, y_j) - \frac{2}{NM} \sum_{i, j} k(x_i, y_j)

    The kernel is a sum over scales C of C/(C + ‖x − y‖²), which keeps gradients from far away, or
    of exp(−‖x − y‖²/C). For equal laws the mean is 0, and half of the values are negative. To
    measure samples with it, in bounded memory, there is :func:`gencore.metrics.kernel_distance`.

    Args:
        x: [N, D], N ≥ 2.
        y: [M, D], M ≥ 2.
        kernel: as above.
        scales: C, in units of squared distances. Of codes against N(0, s² I) in L dimensions the
            reference has those of the default times 2Ls².

    Returns:
        A scalar.

    Raises:
        ValueError: for other shapes, another kernel, or no scales or one that is not finite and
            positive.

    Source:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, "A kernel two-sample test", 2012, (3).
        Tolstikhin, Bousquet, Gelly and Schölkopf, "Wasserstein Auto-Encoders", 2018, §4.

    Example:
        >>> import torch
        >>> from gencore.objectives import maximum_mean_discrepancy
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> maximum_mean_discrepancy(x, x + 1, scales=[1.0])
        tensor(-0.1000)
    """
    owner = "maximum_mean_discrepancy"
    check_choice(owner, "kernel", kernel, get_args(MMDKernel))
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"{owner}: x and y have shapes {list(x.shape)} and {list(y.shape)}; expected [N, D] "
            "and [M, D] of two rows or more"
        )
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"{owner}: scales are {tuple(scales)}; expected finite positive numbers")

    def values(a: Tensor, b: Tensor) -> Tensor:
        # From differences, as no product of matrices has them, and without [N, M, D] of these.
        distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        squared = distances.square()
        if kernel == "gaussian":
            return torch.stack([torch.exp(-squared / c) for c in scales]).sum(0)
        return torch.stack([c / (c + squared) for c in scales]).sum(0)

    def within(a: Tensor) -> Tensor:
        found = values(a, a)
        return (found.sum() - found.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * values(x, y).mean()
