"""Energies whose flows are known, and points to try them on."""

import torch
from torch import nn


def quadratic(precision):
    return lambda x: 0.5 * precision * x.flatten(1).square().sum(1)


def ripples(x):
    """E = Σ(x²/2 + cos 3x): two wells on each axis, and a bounded Hessian 1 − 9 cos 3x."""
    return (0.5 * x.square() + (3 * x).cos()).flatten(1).sum(1)


def key(seed):
    return torch.tensor([seed, 0])


def points(num=7, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, dtype=torch.float64, generator=generator)


def normal(x):
    return torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1)


def square_grid(half_width, size):
    """Midpoints [size², 2] of a square and the area of a cell."""
    side = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * half_width - half_width
    return torch.cartesian_prod(side, side), (2 * half_width / size) ** 2


class Scale(nn.Module):
    """E = ½θx²."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.theta * x.square().sum(1)
