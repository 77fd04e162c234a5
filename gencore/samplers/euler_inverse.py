"""The inverse of an Euler step of gradient descent."""

import torch
from torch import Tensor

from gencore.samplers.energy import Energy, energy_and_grad
from gencore.samplers.hessian import hessian_vector_product

__all__ = ["like_rows", "previous_point", "row_dot", "row_norm"]

# The most steps of Newton's method, and of conjugate gradients for each.
_NEWTON_STEPS = 50
_CONJUGATE_STEPS = 200


def previous_point(
    energy: Energy, x: Tensor, step_size: float, *, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """The fixed point of z = x + a∇E(z), by plain iterations and then Newton's method.

    Args:
        energy: E.
        x: [N, ...].
        step_size: a.
        tolerance: a row is found when it is within this times 1 + ‖z‖ of the fixed point.
        max_iterations: plain ones.

    Returns:
        z [N, ...], and which rows have converged, bool [N].

    Example:
        >>> z, found = previous_point(  # z = 1 + z/2
        ...     lambda x: 0.5 * x.square().sum(1), torch.ones(1, 1), 0.5,
        ...     tolerance=1e-6, max_iterations=100,
        ... )
        >>> round(z.item(), 4), found.item()
        (2.0, True)
    """
    z = x.clone()
    left = torch.arange(x.shape[0], device=x.device)  # rows still on their way
    for _ in range(max_iterations):
        if len(left) == 0:
            break
        following = x[left] + step_size * energy_and_grad(energy, z[left], owner="EulerFlow")[1]
        change = row_norm(following - z[left])
        z[left] = following
        left = left[~(change < tolerance * (1 + row_norm(following)))]
    return _newton(energy, x, z, step_size, tolerance)


def _newton(
    energy: Energy, x: Tensor, z: Tensor, step_size: float, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The fixed point from nearby by Newton's method, and which rows have it.

    Where the step is a contraction, r(z) = x + a∇E(z) − z is minus the gradient of a strictly
    convex function, and the step (I − a∇²E)⁻¹r, which conjugate gradients find, is the
    distance to the root but for terms of second order: the change of a plain iteration is
    smaller by up to 1 − Lip(a∇E).
    """
    eps = torch.finfo(x.dtype).eps
    z = z.clone()
    has_converged = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    left = z.flatten(1).isfinite().all(1).nonzero().squeeze(1)
    target, at = x[left], z[left]
    best, least = at, torch.full_like(row_norm(at), torch.inf)
    for _ in range(_NEWTON_STEPS):
        if len(left) == 0:
            break
        with torch.inference_mode(False), torch.enable_grad():
            at = at.clone().requires_grad_()
            _, grad = energy_and_grad(energy, at, create_graph=True, owner="EulerFlow")
        residual = target + step_size * grad.detach() - at.detach()
        move, is_convex = _conjugate_gradients(grad, at, residual, step_size)
        at, change = at.detach(), row_norm(residual)
        size = 1 + row_norm(at)
        is_worse = ~(change <= least)
        is_near = ~is_worse & is_convex & (row_norm(move) < tolerance * size)
        is_found = is_near | (change <= 8 * eps * size)  # rounding: nothing comes closer
        # Half of a step that was too long, until it is not.
        following = torch.where(like_rows(is_worse, at), 0.5 * (best + at), at + move)
        best = torch.where(like_rows(is_worse, at), best, at)
        least = torch.where(is_worse, least, change)
        z[left], has_converged[left] = following, is_found
        goes_on = ~is_found & (is_worse | is_convex)
        left, target, at, best, least = (
            part[goes_on] for part in (left, target, following, best, least)
        )
    return z, has_converged


def _conjugate_gradients(
    grad: Tensor, at: Tensor, residual: Tensor, step_size: float
) -> tuple[Tensor, Tensor]:
    """(I − a∇²E)⁻¹r to three digits, and in which rows [N] the matrix seems positive."""
    move, rest, direction = torch.zeros_like(residual), residual, residual
    square = row_dot(rest, rest)
    goal, is_convex = 1e-6 * square, square >= 0
    for _ in range(min(at[0].numel(), _CONJUGATE_STEPS)):
        goes_on = square > goal
        if not goes_on.any():
            break
        product = hessian_vector_product(grad, at, direction)
        product = direction - step_size * product
        curvature = row_dot(direction, product)
        is_convex &= ~goes_on | (curvature > 0)
        goes_on &= curvature > 0
        length = like_rows(torch.where(goes_on, square / curvature, 0.0), at)
        move, rest = move + length * direction, rest - length * product
        before, square = square, row_dot(rest, rest)
        ratio = like_rows(torch.where(goes_on, square / before, 0.0), at)
        direction = rest + ratio * direction
    return move, is_convex


def row_norm(x: Tensor) -> Tensor:
    """‖xₙ‖, [N]."""
    return x.flatten(1).norm(dim=1)


def row_dot(x: Tensor, y: Tensor) -> Tensor:
    """xₙ · yₙ, [N]."""
    return (x * y).flatten(1).sum(1)


def like_rows(numbers: Tensor, x: Tensor) -> Tensor:
    """A number a row, [N, 1, ...], for products with x [N, ...]."""
    return numbers.view(-1, *[1] * (x.dim() - 1))
