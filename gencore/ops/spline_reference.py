"""The rational-quadratic spline in torch: reference, derivatives, shapes of the results.

It is computed in float64 whatever the data's dtype, since a flat bin magnifies every rounding by
the inverse of its slope.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["SplineSettings", "reference_spline"]

_ops = torch.ops.gencore


class SplineSettings(NamedTuple):
    """The numbers of the family's schemas, in their order there."""

    tail_bound: float
    bound: float
    """Largest size of a raw parameter, or infinite."""
    min_width: float
    min_height: float
    min_derivative: float
    inverse: bool


def reference_spline(
    x: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, s: SplineSettings
) -> tuple[Tensor, Tensor]:
    """``rational_quadratic_spline`` in pure PyTorch.

    It also takes K slopes a spline, of which the last is that at both ends, as on a circle.
    """
    shape, rows = x.shape, x.reshape(-1).double()
    # Outside [-B, B] a stand-in's bin is computed, so that nothing there makes a gradient NaN.
    inside = (rows >= -s.tail_bound) & (rows <= s.tail_bound)
    at = torch.where(inside, rows, 0.0)
    w, h, d = (
        p.reshape(rows.shape[0], p.shape[-1]).double().where(inside.unsqueeze(1), 0.0)
        for p in (widths, heights, derivatives)
    )
    if s.bound < math.inf:
        w, h = (bounded(p, s.bound) for p in (w, h))
    left, bottom = (
        _knots(p, s.tail_bound, smallest) for p, smallest in ((w, s.min_width), (h, s.min_height))
    )
    searched = (bottom if s.inverse else left)[:, 1:-1]
    index = (at.unsqueeze(1) >= searched).sum(1, keepdim=True)
    x0, x1 = (left.gather(1, i).squeeze(1) for i in (index, index + 1))
    y0, y1 = (bottom.gather(1, i).squeeze(1) for i in (index, index + 1))
    bins = widths.shape[-1]
    slope0, slope1 = (_slope(d, knot, bins, s) for knot in (index - 1, index))

    width, height = x1 - x0, y1 - y0
    secant = height / width
    excess = slope1 + slope0 - 2 * secant
    if s.inverse:  # eqs. (6) to (8)
        eta = (at - y0) / height
        a = secant - slope0 + eta * excess
        b = slope0 - eta * excess
        root = (b * b + 4 * a * secant * eta).sqrt()
        rising = b >= 0  # of the root's two forms, the one that does not cancel
        numerator = torch.where(rising, 2 * secant * eta, root - b)
        xi = numerator / torch.where(rising, b + root, 2 * a)
        value = x0 + width * xi
    else:  # eq. (4)
        xi = (at - x0) / width
        n = secant * xi**2 + slope0 * xi * (1 - xi)
        value = y0 + height * n / (secant + excess * xi * (1 - xi))
    # eq. (5)
    m = slope1 * xi**2 + 2 * secant * xi * (1 - xi) + slope0 * (1 - xi) ** 2
    q = secant + excess * xi * (1 - xi)
    log_slope = 2 * secant.log() + m.log() - 2 * q.log()
    if s.inverse:
        log_slope = -log_slope
    y = torch.where(inside, value, rows).reshape(shape).to(x.dtype)
    log_slope = torch.where(inside, log_slope, 0.0)
    log_det = log_slope.reshape(shape[0], math.prod(shape[1:])).sum(1)
    return y, log_det.to(accumulation_dtype(x))


def _knots(logits: Tensor, tail_bound: float, smallest: float) -> Tensor:
    """The knots [..., K + 1] from -B to B of bins of at least that share."""
    bins = logits.shape[-1]
    shares = smallest + (1 - smallest * bins) * torch.softmax(logits, -1)
    inner = tail_bound * (2 * shares[..., :-1].cumsum(-1) - 1)
    ends = tail_bound + 0 * shares[..., :1]  # NaN as the others are
    return torch.cat([-ends, inner, ends], -1)


def _slope(raw: Tensor, knot: Tensor, bins: int, s: SplineSettings) -> Tensor:
    """The slope at inner knot number ``knot`` [rows, 1] of raw slopes, and at the ends one, or the
    last of as many slopes as bins."""
    has_slope = (knot >= 0) & (knot < bins - 1) | (raw.shape[1] == bins)
    chosen = functional.pad(raw, (0, bins - raw.shape[1])).gather(1, knot % bins)
    if s.bound < math.inf:
        chosen = bounded(chosen, s.bound)
    offset = math.log(math.exp(1 - s.min_derivative) - 1)
    # beyond `threshold` torch's softplus is the identity
    slope = s.min_derivative + functional.softplus(chosen + offset, threshold=50)
    return torch.where(has_slope, slope, 1.0).squeeze(1)


# Derivatives of the compiled operators.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = SplineSettings(*inputs[4:])


def _differentiate(ctx: Any, y_grad: Tensor, log_det_grad: Tensor) -> tuple[Tensor | None, ...]:
    settings = ctx.settings
    grads = _backward(y_grad, log_det_grad, *ctx.saved_tensors, *settings)
    return *grads, *(None,) * len(settings)


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.settings = SplineSettings(*inputs[6:])


def _differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(
        y_grad: Tensor, log_det_grad: Tensor, x: Tensor, w: Tensor, h: Tensor, d: Tensor
    ) -> list[Tensor | None]:
        results = reference_spline(x, w, h, d, ctx.settings)
        return gradients(results, (x, w, h, d), (y_grad, log_det_grad))

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * len(ctx.settings)


native_spline = differentiable(_ops.rational_quadratic_spline.default, _differentiate, _setup)
_backward = differentiable(
    _ops.rational_quadratic_spline_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::rational_quadratic_spline")
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[0], dtype=accumulation_dtype(x))


@torch.library.register_fake("gencore::rational_quadratic_spline_backward")
def _(y_grad: Tensor, log_det_grad: Tensor, *operands: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in operands[:4])
