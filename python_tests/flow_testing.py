"""What every invertible transform and every flow promises, checked on any of them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencore.models import Flow
from gencore.nn import Transform


def randomize(module: nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Move every parameter off its starting value, where many maps are the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def jacobian_log_det(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log|det ∂f/∂x| of each row by autograd and an LU decomposition."""
    rows = []
    for row in x.detach():
        jacobian = torch.autograd.functional.jacobian(lambda r: f(r[None])[0].flatten(), row)
        rows.append(torch.linalg.slogdet(jacobian.reshape(row.numel(), row.numel())).logabsdet)
    return torch.stack(rows)


def check_transform(
    transform: Transform, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-9
) -> None:
    """The inverse undoes the map, both log-determinants are those of the Jacobian, and each row is
    mapped by itself."""
    assert x.dtype == torch.float64

    def one(row: Tensor, method: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        return method(row, None if context is None else context[:1])[0]

    z, log_det = transform(x, context)
    back, inverse_log_det = transform.inverse(z, context)
    assert log_det.shape == inverse_log_det.shape == x.shape[:1]
    assert log_det.dtype == torch.float64
    torch.testing.assert_close(back, x, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=tolerance, rtol=tolerance)
    first = jacobian_log_det(lambda row: one(row, transform), x[:1])
    torch.testing.assert_close(log_det[:1], first, atol=tolerance, rtol=tolerance)
    first = jacobian_log_det(lambda row: one(row, transform.inverse), z[:1])
    torch.testing.assert_close(inverse_log_det[:1], first, atol=tolerance, rtol=tolerance)
    alone = transform(x[-1:], None if context is None else context[-1:])
    torch.testing.assert_close(alone[0], z[-1:], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(alone[1], log_det[-1:], atol=tolerance, rtol=tolerance)


def grid_integral(
    flow: Flow,
    *,
    low: float = -8.0,
    high: float = 8.0,
    points: int = 401,
    context: Tensor | None = None,
) -> float:
    """∫ p(x) dx of a flow on the plane, by the midpoint rule."""
    width = (high - low) / points
    axis = low + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(axis, axis)
    rows = None if context is None else context.expand(len(grid), -1)
    with torch.no_grad():
        return (flow.log_prob(grid, rows).exp().sum() * width**2).item()


def gaussian_entropy(covariance: Tensor) -> float:
    """½ log det(2πeC): the negative log-likelihood that no model of N(m, C) can beat."""
    return 0.5 * torch.logdet(2 * math.pi * math.e * covariance).item()
