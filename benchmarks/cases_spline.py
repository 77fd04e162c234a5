"""Rational-quadratic splines: forward, backward, and the inverse, beside peers."""

import math
from collections.abc import Callable, Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import rational_quadratic_spline

Peer = Callable[[bool], tuple[Tensor, Tensor]]
BINS, TAIL, SMALLEST = 8, 3.0, 1e-3


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shapes = [(256, 16), (4096, 32)]
    for rows, features in shapes[:1] if quick else shapes:
        yield from _training(rows, features, device)
        yield _inverse(rows, features, device)


def _operands(rows: int, features: int, device: torch.device, std: float = 1.0) -> list[Tensor]:
    x = 2 * torch.rand(rows, features, device=device) * TAIL - TAIL
    sizes = (BINS, BINS, BINS - 1)
    return [x, *(std * torch.randn(rows, features, size, device=device) for size in sizes)]


def _size(rows: int, features: int) -> str:
    return f"{rows:,} rows of {features}, K = {BINS}"


def _eager(x: Tensor, w: Tensor, h: Tensor, d: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """The same function in float32, as a user would write it; raw parameters within ±1 by tanh."""
    left, bottom = (
        functional.pad(
            (SMALLEST + (1 - BINS * SMALLEST) * torch.softmax(p.tanh(), -1)).cumsum(-1), (1, 0)
        )
        * (2 * TAIL)
        - TAIL
        for p in (w, h)
    )
    offset = math.log(math.exp(1 - SMALLEST) - 1)
    slopes = functional.pad(SMALLEST + functional.softplus(d.tanh() + offset), (1, 1), value=1.0)
    inside = x.abs() <= TAIL
    at = torch.where(inside, x, 0.0)
    knots = bottom if inverse else left
    index = torch.searchsorted(knots[..., 1:-1].contiguous(), at.unsqueeze(-1), right=True)

    def pick(values: Tensor, i: Tensor) -> Tensor:
        return values.gather(-1, i).squeeze(-1)

    x0, y0 = pick(left, index), pick(bottom, index)
    d0, d1 = pick(slopes, index), pick(slopes, index + 1)
    width, height = pick(left, index + 1) - x0, pick(bottom, index + 1) - y0
    s = height / width
    c = d0 + d1 - 2 * s
    if inverse:
        eta = (at - y0) / height
        a, b = s - d0 + eta * c, d0 - eta * c
        xi = 2 * s * eta / (b + (b * b + 4 * a * s * eta).clamp(min=0).sqrt())
        value = x0 + width * xi
    else:
        xi = (at - x0) / width
        value = y0 + height * (s * xi**2 + d0 * xi * (1 - xi)) / (s + c * xi * (1 - xi))
    m = d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2
    log_slope = 2 * s.log() + m.log() - 2 * (s + c * xi * (1 - xi)).log()
    log_slope = torch.where(inside, -log_slope if inverse else log_slope, 0.0)
    return torch.where(inside, value, x), log_slope.sum(1)


def _training(rows: int, features: int, device: torch.device) -> Iterator[Case]:
    operands = [t.requires_grad_() for t in _operands(rows, features, device)]

    grads = torch.randn(rows, features, device=device), -torch.ones(rows, device=device)

    elements = rows * features
    case = Case(
        "spline", "rational_quadratic_spline", _size(rows, features),
        {
            **forms(
                lambda: rational_quadratic_spline(*operands),
                lambda: _eager(*operands, inverse=False),
            ),
            **{name: lambda f=f: f(False) for name, f in _peers(operands).items()},
        },
        elements=elements,
        headline=rows > 1000,
    )  # fmt: skip
    # Read in the forward pass; read, and their gradients written, in the backward pass.
    parameters = 12 * BINS * elements
    return passes(
        case, rational_quadratic_spline, operands, grads,
        forward_bytes=parameters, backward_bytes=2 * parameters,
    )  # fmt: skip


def _inverse(rows: int, features: int, device: torch.device) -> Case:
    """The error is that of a round trip with logits of standard deviation 10."""
    operands = _operands(rows, features, device)

    def error() -> float:
        x, *raw = _operands(rows, features, device, std=10.0)
        y, _ = rational_quadratic_spline(x, *raw)
        return (rational_quadratic_spline(y, *raw, inverse=True)[0] - x).abs().max().item()

    def ours() -> object:
        return rational_quadratic_spline(*operands, inverse=True)

    elements = rows * features
    return Case(
        "spline", "rational_quadratic_spline, inverse", _size(rows, features),
        {
            **forms(ours, lambda: _eager(*operands, inverse=True)),
            **{name: lambda f=f: f(True) for name, f in _peers(operands).items()},
        },
        bytes=4 * elements * (3 * BINS + 1),
        elements=elements,
        error=error,
        context=torch.no_grad,
    )  # fmt: skip


def _peers(operands: list[Tensor]) -> dict[str, Peer]:
    """The same spline by peers that are installed; each parametrises slopes in its own way."""
    x, w, h, d = operands
    peers: dict[str, Peer] = {}
    try:
        from zuko.transforms import MonotonicRQSTransform
    except ImportError:
        pass
    else:

        def by_zuko(inverse: bool) -> tuple[Tensor, Tensor]:
            spline = MonotonicRQSTransform(w, h, d, bound=TAIL, slope=SMALLEST)
            if inverse:
                value = spline.inv(x)
                return value, -spline.log_abs_det_jacobian(value, x).sum(1)
            value, log_slope = spline.call_and_ladj(x)
            return value, log_slope.sum(1)

        peers["zuko"] = by_zuko
    try:
        from normflows.utils.splines import unconstrained_rational_quadratic_spline
    except ImportError:
        pass
    else:

        def by_normflows(inverse: bool) -> tuple[Tensor, Tensor]:
            value, log_slope = unconstrained_rational_quadratic_spline(
                x, w, h, d, inverse=inverse, tails="linear", tail_bound=TAIL
            )
            return value, log_slope.sum(1)

        peers["normflows"] = by_normflows
    return peers
