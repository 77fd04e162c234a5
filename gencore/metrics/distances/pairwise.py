"""Distances of all points of one set from all points of another."""

import torch
from torch import Tensor

__all__ = ["default_chunk_size", "pairwise_distances", "squared_distances"]

# Pairs at a time: on the CPU as many as stay in a core's cache, on a GPU enough to fill it.
_PAIRS = {"cpu": 1 << 18}
_PAIRS_ELSEWHERE = 1 << 24


def default_chunk_size(device: torch.device, num_columns: int) -> int:
    """How many rows of pairs are held at a time where nobody says, with so many pairs in a row."""
    return max(1, _PAIRS.get(device.type, _PAIRS_ELSEWHERE) // num_columns)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², [N, M], by a product of matrices.

    It is fast in any dimension. Its rounding error is that of the squared size of the points, about
    their mean, and not that of the distance.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    squared = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return squared.add_(x.square().sum(1, keepdim=True)).clamp(min=0)


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖, [..., N, M], from differences: exact where points are near one another.

    The gradient of a distance of 0 is 0.
    """
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
