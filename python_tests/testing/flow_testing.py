"""What every invertible transform and every flow promises, checked on any of them."""

import math
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from gencore.models import (
    IAF,
    MAF,
    NICE,
    AutoregressiveSplineFlow,
    CircularSplineFlow,
    ContinuousFlow,
    CouplingFlow,
    Flow,
    Glow,
    MonotonicFlow,
    PlanarFlow,
    RadialFlow,
    RealNVP,
    ResidualFlow,
    SplineFlow,
)
from gencore.nn import Transform

# Every flow of gencore.models, small: vectors of three numbers, or images of 1x4x4.
FLOWS: dict[str, Callable[..., Flow]] = {
    "NICE": lambda **options: NICE(3, hidden_widths=(8,), **options),
    "CouplingFlow": lambda **options: CouplingFlow(3, num_layers=3, hidden_widths=(8,), **options),
    "SplineFlow": lambda **options: SplineFlow(3, num_layers=3, hidden_widths=(8,), **options),
    "CircularSplineFlow": lambda **options: CircularSplineFlow(
        3, num_layers=3, hidden_widths=(8,), **options
    ),
    "MAF": lambda **options: MAF(3, num_layers=2, hidden_widths=(8,), **options),
    "IAF": lambda **options: IAF(3, num_layers=2, hidden_widths=(8,), **options),
    "MonotonicFlow": lambda **options: MonotonicFlow(
        3,
        num_layers=2,
        hidden_widths=(8,),
        integrand_widths=(8,),
        embedding_size=3,
        num_nodes=49,
        **options,
    ),
    "AutoregressiveSplineFlow": lambda **options: AutoregressiveSplineFlow(
        3, **{"num_layers": 2, "hidden_widths": (8,), **options}
    ),
    "PlanarFlow": lambda **options: PlanarFlow(3, num_layers=2, **options),
    "RadialFlow": lambda **options: RadialFlow(3, num_layers=2, **options),
    "ResidualFlow": lambda **options: ResidualFlow(
        3, num_blocks=2, hidden_widths=(8,), tolerance=1e-12, **options
    ),
    "ContinuousFlow": lambda **options: ContinuousFlow(
        3, hidden_widths=(8,), solver="dopri8", rtol=1e-9, atol=1e-9, **options
    ),
    "Glow": lambda **options: Glow(
        (1, 4, 4), num_levels=2, num_steps=2, hidden_channels=8, **options
    ),
    "RealNVP": lambda **options: RealNVP((1, 4, 4), hidden_channels=4, num_blocks=1, **options),
}

if find_spec("torchdiffeq") is None:  # of an extra
    del FLOWS["ContinuousFlow"]


def randn(*shape: int, seed: int = 0, device="cpu", dtype=torch.float64) -> Tensor:
    """The same normal numbers in every dtype and on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def randomize(module: nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Move every parameter off its starting value, where many maps are the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def ready(flow: Flow, scale: float = 0.3) -> Flow:
    """In float64, evaluating, no identity."""
    flow = flow.double().eval()
    randomize(flow, scale)
    return flow


def redraw(module: nn.Module, scale: float = 1.0, seed: int | None = None) -> None:
    """Give every parameter normal values; without a seed, from torch's own generator."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale, generator=generator)


def jacobian_log_det(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log|det ∂f/∂x| of each row by autograd and an LU decomposition; f maps each row by itself."""
    sums = torch.autograd.functional.jacobian(lambda t: f(t).flatten(1).sum(0), x.detach())
    rows = sums.reshape(-1, len(x), x[0].numel()).transpose(0, 1)
    return torch.linalg.slogdet(rows).logabsdet


def check_transform(
    transform: Transform, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-9
) -> None:
    """The inverse undoes the map, both log-determinants are those of the Jacobian, and each row is
    mapped by itself."""
    assert x.dtype == torch.float64
    close = {"rtol": tolerance, "atol": tolerance}
    z, log_det = transform(x, context)
    back, inverse_log_det = transform.inverse(z, context)
    assert log_det.shape == inverse_log_det.shape == x.shape[:1]
    assert log_det.dtype == torch.float64
    torch.testing.assert_close(back, x, **close)
    torch.testing.assert_close(inverse_log_det, -log_det, **close)
    expected = jacobian_log_det(lambda t: transform(t, context)[0], x)
    torch.testing.assert_close(log_det, expected, **close)
    expected = jacobian_log_det(lambda t: transform.inverse(t, context)[0], z)
    torch.testing.assert_close(inverse_log_det, expected, **close)
    alone = transform(x[-1:], None if context is None else context[-1:])
    torch.testing.assert_close(alone[0], z[-1:], **close)
    torch.testing.assert_close(alone[1], log_det[-1:], **close)


def grid_integral(
    flow: Flow, reach: float, points: int = 401, context: Tensor | None = None
) -> float:
    """∫ p(x) dx of a flow on the plane over [−reach, reach]², by the midpoint rule."""
    width = 2 * reach / points
    axis = -reach + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(axis, axis)
    rows = None if context is None else context.expand(len(grid), -1)
    with torch.no_grad():
        return (flow.log_prob(grid, rows).exp().sum() * width**2).item()


def gaussian_entropy(covariance: Tensor) -> float:
    """½ log det(2πeC): the negative log-likelihood that no model of N(m, C) can beat."""
    return 0.5 * torch.logdet(2 * math.pi * math.e * covariance).item()
