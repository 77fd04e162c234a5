"""The monotone rational-quadratic spline of neural spline flows, a fused operator."""

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    check_chains,
    check_like,
    check_state,
    clip_bound,
    number,
)
from gencore.ops.spline_reference import SplineSettings, native_spline, reference_spline

__all__ = ["rational_quadratic_spline"]

_MAX_BINS = 512  # kMaxSplineBins of csrc/arguments/spline.h

_ops = torch.ops.gencore


def rational_quadratic_spline(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    tail_bound: float = 3.0,
    inverse: bool = False,
    bound: float | None = 1.0,
    min_width: float = 1e-3,
    min_height: float = 1e-3,
    min_derivative: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    r"""A monotone rational-quadratic spline of each element, and the sum of its log-derivatives.

    On [−B, B] the map is made of K bins, from knot (xₖ, yₖ) to (xₖ₊₁, yₖ₊₁) with the slopes δₖ and
    δₖ₊₁ at them; outside it is the identity:

    .. math:: y = y_k + \frac{(y_{k+1} - y_k)\,[s\,\xi^2 + \delta_k\,\xi(1-\xi)]}
              {s + [\delta_{k+1} + \delta_k - 2s]\,\xi(1-\xi)}, \qquad
              \xi = \frac{x - x_k}{x_{k+1} - x_k}, \quad
              s = \frac{y_{k+1} - y_k}{x_{k+1} - x_k}

    The bins' widths and heights are 2B times a softmax of their logits, no share below
    ``min_width`` or ``min_height``; inner slopes are ``min_derivative`` and a softplus, shifted so
    that parameters of zero make the identity. Raw parameters r enter as b·tanh(r/b) with b =
    ``bound``. Differentiable in all tensors, to any order, in both directions.

    **How exactly it inverts.** With what is kept in the tensors' dtype alone, x cannot be recovered
    better than to the rounding of y over the slope dy/dx. Knots are the same bit for bit in both
    directions and a bin is mapped in float64, so this limit is reached. With the default
    ``bound``, K = 8 and B = 3 no slope is below 1.5e-3, and the round trip in float32 is
    below 1e-4 whatever the raw parameters; without a bound slopes of 1e-7 occur, where y does not
    determine x.

    Args:
        x: [N, ...], float64, float32, bfloat16 or float16; a row is a data point.
        widths: raw logits of the bins' widths [N, ..., K], of the same dtype and device. These and
            the others are read where they lie where elements are equally far apart, as they are in
            the parts of one tensor [N, ..., 3K − 1].
        heights: raw logits of the bins' heights [N, ..., K].
        derivatives: raw slopes at the K − 1 inner knots [N, ..., K − 1].
        tail_bound: B > 0.
        inverse: map y back to x.
        bound: b > 0 of all raw parameters; ``None`` leaves them as they are.
        min_width, min_height: smallest share of a bin, below 1/K.
        min_derivative: smallest slope at a knot, below 1.

    Returns:
        (y, log_det): y in the layout and dtype of ``x``, and the sum over each row of
        log(dy/dx), or of log(dx/dy) for the inverse: [N], in float32, or float64 for float64.
        NaN stays NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, and for more than 512 bins.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, eqs. (4) to (8).
        Gregory and Delbourgo, "Piecewise rational quadratic interpolation to monotonic data", 1982.

    Example:
        >>> import torch
        >>> from gencore.ops import rational_quadratic_spline
        >>> x = torch.tensor([[-1.0, 0.5, 7.0]])
        >>> raw = torch.zeros(1, 3, 4)
        >>> rational_quadratic_spline(x, raw, raw, raw[..., :3])
        (tensor([[-1.0000,  0.5000,  7.0000]]), tensor([0.]))
    """
    op = "rational_quadratic_spline"
    check_state(op, x)
    check_chains(op, x)
    bins = _check_parameters(op, x, widths, heights, derivatives)
    settings = spline_settings(
        op, bins, tail_bound, bound, min_width, min_height, min_derivative, inverse=inverse
    )
    if state.reference:
        return reference_spline(x, widths, heights, derivatives, settings)
    y, log_det = native_spline(x, widths, heights, derivatives, *settings)
    return y, log_det


def spline_settings(
    op: str,
    bins: int,
    tail_bound: float,
    bound: float | None,
    min_width: float,
    min_height: float,
    min_derivative: float,
    *,
    inverse: bool,
) -> SplineSettings:
    """The numbers of splines of that many bins, or raise."""
    if bins > _MAX_BINS:
        raise ValueError(f"{op}: splines have {bins} bins; expected at most {_MAX_BINS}")
    tail = number(op, "tail_bound", tail_bound)
    if tail == 0:
        raise ValueError(f"{op}: tail_bound must be positive, got {tail_bound}")
    return SplineSettings(
        tail,
        clip_bound(op, "bound", bound),
        _share(op, "min_width", min_width, bins),
        _share(op, "min_height", min_height, bins),
        _share(op, "min_derivative", min_derivative, 1),
        bool(inverse),
    )


def _check_parameters(
    op: str, x: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor
) -> int:
    """Raise unless the parameters fit ``x``; the number of bins."""
    check_state(op, widths, "widths")
    if widths.dim() != x.dim() + 1 or widths.shape[:-1] != x.shape or widths.shape[-1] < 1:
        raise ValueError(
            f"{op}: widths has shape {list(widths.shape)}; expected that of x and the number of "
            f"bins: [{', '.join(map(str, x.shape))}, K]"
        )
    if widths.dtype != x.dtype:
        raise TypeError(f"{op}: widths is {widths.dtype}, x is {x.dtype}; they must be equal")
    if widths.device != x.device:
        raise ValueError(f"{op}: widths is on {widths.device}, x on {x.device}")
    bins = widths.shape[-1]
    check_like(op, widths, heights, "heights", "widths")
    check_state(op, derivatives, "derivatives")
    if derivatives.shape != (*x.shape, bins - 1):
        raise ValueError(
            f"{op}: derivatives has shape {list(derivatives.shape)}; expected "
            f"{[*x.shape, bins - 1]}, one for each of the {bins - 1} inner knots"
        )
    check_like(op, widths[..., 1:], derivatives, "derivatives", "widths")
    return bins


def _share(op: str, name: str, value: float, parts: int) -> float:
    share = number(op, name, value)
    if not share * parts < 1:
        raise ValueError(f"{op}: {name} is {share}; expected less than {1 / parts:g}")
    return share
