"""Sums over all pairs of two point clouds, by chunks of rows: no matrix of them all is held."""

import math

import torch
from torch import Tensor

from gencore.metrics.distances.pairwise import pairwise_distances

__all__ = ["soft_minimum", "transport_gradients"]

_LOG2_E = math.log2(math.e)


def soft_minimum(
    x: Tensor, y: Tensor, log_weights: Tensor, *, epsilon: float, p: int, chunk_size: int
) -> Tensor:
    """−ε log Σ_j exp(w_j − ‖x_i − y_j‖^p/ε), [B, N], of [B, N, D], [B, M, D] and w [B, M]."""
    # Powers of two take a third of the time of powers of e.
    scale = _LOG2_E / epsilon
    rows = log_weights * _LOG2_E
    if p == 2:  # −‖x − y‖² = 2x·y − ‖y‖² − ‖x‖²: the product of matrices adds the second
        rows = rows - scale * y.square().sum(2)
    rows, across = rows[:, None], y.mT
    sums = []
    with _without_autocast(x):
        for part in x.split(chunk_size, 1):
            if p == 2:
                exponents = torch.baddbmm(rows, part, across, alpha=2 * scale)
            else:
                exponents = torch.add(rows, pairwise_distances(part, y), alpha=-scale)
            largest = exponents.amax(2, keepdim=True)
            total = exponents.sub_(largest).exp2_().sum(2)
            sums.append(total.log2_().add_(largest[..., 0]))
    minimum = torch.cat(sums, 1).mul_(-1 / scale)
    return minimum.add_(x.square().sum(2)) if p == 2 else minimum


def transport_gradients(
    x: Tensor,
    y: Tensor,
    log_x: Tensor,
    log_y: Tensor,
    *,
    epsilon: float,
    p: int,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of Σ_ij P_ij C_ij by x and y, with P_ij = exp(u_i + v_j − C_ij/ε) held and
    C_ij = ‖x_i − y_j‖^p.

    Args:
        x, y: points [B, N, D] and [B, M, D].
        log_x, log_y: u [B, N] and v [B, M].
        epsilon, p, chunk_size: as elsewhere.
    """
    of_chunk = _squared_gradients if p == 2 else _distance_gradients
    by_x, by_y = [], torch.zeros_like(y)
    with _without_autocast(x):
        for part, log_part in zip(x.split(chunk_size, 1), log_x.split(chunk_size, 1), strict=True):
            of_part, of_y = of_chunk(part, y, log_part, log_y, epsilon)
            by_x.append(of_part)
            by_y += of_y
    return torch.cat(by_x, 1), by_y


def _squared_gradients(
    x: Tensor, y: Tensor, log_x: Tensor, log_y: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    rows = (log_x - x.square().sum(2) / epsilon)[..., None]
    columns = (log_y - y.square().sum(2) / epsilon)[:, None]
    plan = torch.baddbmm(columns, x, y.mT, alpha=2 / epsilon).add_(rows).exp_()
    by_x = 2 * (plan.sum(2)[..., None] * x - plan @ y)
    return by_x, 2 * (plan.sum(1)[..., None] * y - plan.mT @ x)


def _distance_gradients(
    x: Tensor, y: Tensor, log_x: Tensor, log_y: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        ends = x.detach().requires_grad_(), y.detach().requires_grad_()
        distances = pairwise_distances(*ends)
    plan = log_x[..., None] + log_y[:, None] - distances.detach() / epsilon
    by_x, by_y = torch.autograd.grad(distances, ends, plan.exp_())
    return by_x, by_y


def _without_autocast(x: Tensor) -> torch.autocast:
    """Products of half precision would round the costs away."""
    return torch.autocast(x.device.type, enabled=False)
