"""The squared maximum mean discrepancy of two batches, as a loss."""

from torch import Tensor

from gencore.metrics import InverseMultiquadraticKernel, Kernel
from gencore.metrics.distances.discrepancy import check_two_sets, squared_discrepancy
from gencore.metrics.distances.pairwise import default_chunk_size

__all__ = ["maximum_mean_discrepancy"]

# So few pairs are held all at once, which spares the backward pass from computing them anew.
_FEW_PAIRS = 1 << 20


def maximum_mean_discrepancy(
    x: Tensor,
    y: Tensor,
    kernel: Kernel | None = None,
    *,
    unbiased: bool = True,
    chunk_size: int | None = None,
) -> Tensor:
    r"""An estimate of ‖E φ(x) − E φ(y)‖² in the feature space of a kernel, differentiable.

    .. math:: \frac{1}{N(N-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{M(M-1)} \sum_{i \ne j}
              k(y_i, y_j) - \frac{2}{NM} \sum_{i, j} k(x_i, y_j)

    For equal laws the mean is 0, and half of the values are negative. The biased estimate has the
    pairs of a point with itself too, with 1/N² and 1/M²: it is never negative, 0 for equal
    batches, and on average too large by O(1/N + 1/M). Its error falls with N^{−1/2} in any
    dimension.

    With the kernel :class:`gencore.metrics.DistanceKernel` it is the energy distance
    2E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖. To measure samples there are
    :func:`gencore.metrics.kernel_distance` and :func:`gencore.metrics.energy_distance`.

    Args:
        x: [N, D], N ≥ 2.
        y: [M, D], M ≥ 2, of the same dtype.
        kernel: of :mod:`gencore.metrics`, or any differentiable function of [N, D] and [M, D] to
            [N, M], such as one with parameters; `InverseMultiquadraticKernel` if None.
        unbiased: which of the two estimates. The biased one takes a single point as well.
        chunk_size: number of rows of the matrices of kernel values that are held at a time, in the
            backward pass too: it computes them once more where N or M is larger. If None, all of
            some hundreds of points, and of more what suits the device. Of a Gaussian kernel none
            are held.

    Returns:
        A scalar, in float32 or float64.

    Raises:
        ValueError: for other shapes, or a chunk size below 1.
        TypeError: for two dtypes, or one that is not floating.

    Source:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, "A kernel two-sample test", 2012, (3), (5).
        Bruna, "Inference and Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.metrics import InverseMultiquadraticKernel
        >>> from gencore.objectives import maximum_mean_discrepancy
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> maximum_mean_discrepancy(x, x + 1, InverseMultiquadraticKernel(1.0))
        tensor(-0.1000)
    """
    if chunk_size is None:
        chunk_size = _default_chunk_size(x, y)
    check_two_sets("maximum_mean_discrepancy", x, y, unbiased=unbiased, chunk_size=chunk_size)
    kernel = InverseMultiquadraticKernel() if kernel is None else kernel
    return squared_discrepancy(x, y, kernel, unbiased=unbiased, chunk_size=chunk_size)


def _default_chunk_size(x: Tensor, y: Tensor) -> int:
    longest = max(len(x), len(y), 1)
    few = longest**2 <= _FEW_PAIRS
    return longest if few else default_chunk_size(x.device, longest)
