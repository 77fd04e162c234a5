"""What every invertible transform promises, checked against autograd's Jacobian."""

import torch
from torch import Tensor

from gencore.models import Flow
from gencore.nn import Transform


def randomise(module: torch.nn.Module, scale: float = 1.0) -> None:
    """Give all parameters normal values, so that nothing is the identity by its initialisation."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale)


def assert_invertible(
    transform: Transform, x: Tensor, context: Tensor | None = None, tolerance: float = 1e-9
) -> None:
    """Check both directions at float64 rows ``x``: inverses of each other, with true log-dets."""
    z, log_det = transform(x, context)
    back, inverse_log_det = transform.inverse(z, context)
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(back, x, **close)
    torch.testing.assert_close(inverse_log_det, -log_det, **close)
    for direction, start, expected in (
        (transform, x, log_det),
        (transform.inverse, z.detach(), inverse_log_det),
    ):
        jacobian = torch.autograd.functional.jacobian(
            lambda t, direction=direction: direction(t, context)[0].flatten(1).sum(0), start
        )
        rows = jacobian.reshape(-1, x.shape[0], x[0].numel()).transpose(0, 1)
        torch.testing.assert_close(torch.linalg.slogdet(rows).logabsdet, expected, **close)


def grid_integral(flow: Flow, reach: float, points: int, context: Tensor | None = None) -> float:
    """The integral of a plane's density over [−reach, reach]², by the midpoint rule."""
    step = 2 * reach / points
    axis = -reach + step * (torch.arange(points, dtype=torch.float64) + 0.5)
    x = torch.cartesian_prod(axis, axis)
    if context is not None:
        context = context.expand(len(x), -1)
    with torch.no_grad():
        return float(flow.log_prob(x, context).exp().sum() * step**2)
