"""Annealed importance sampling in 32 dimensions, and the bits per dimension that follow."""

import math
from functools import partial

import pytest
import torch
from testing.chain_testing import key, normal
from torch import nn

from gencore.metrics import bits_per_dim
from gencore.models import EnergyDensity
from gencore.samplers import HMC, AnnealedImportance, GaussianBase, annealing_schedule

DIM, VARIANCE, SCALE = 32, 0.3, 0.7
LOG_Z = 0.5 * DIM * math.log(2 * math.pi * VARIANCE)


class Gaussian(nn.Module):
    def forward(self, y):
        return 0.5 * y.square().sum(1) / VARIANCE


@pytest.fixture(scope="module")
def result():
    ais = AnnealedImportance(
        Gaussian(),
        GaussianBase((DIM,)),
        annealing_schedule("linear", 200),
        partial(HMC, step_size=0.3, num_leapfrog=4),
    )
    return ais.run(2000, key=key(1))


def test_log_z_of_a_gaussian_within_a_twentieth_of_a_nat(result):
    """Of 10.14 nats, from 200 levels and 2000 chains."""
    assert pytest.approx(10.1425, abs=1e-4) == LOG_Z
    assert abs(result.log_z - LOG_Z) < 0.05
    assert abs(result.log_z - LOG_Z) < 4 * result.standard_error < 0.05


def test_bits_of_scaled_data_have_the_jacobian_of_every_dimension(result):
    """x = y/a is N(0, s²/a²): log p(x) = log p(y) + D log a, which is −log₂ a bits a dimension."""
    x = math.sqrt(VARIANCE) / SCALE * normal(500, DIM).double()
    exact = torch.distributions.Normal(0, math.sqrt(VARIANCE) / SCALE).log_prob(x).sum(1)
    known = EnergyDensity(Gaussian(), LOG_Z, scale=SCALE)
    torch.testing.assert_close(known.log_prob(x), exact)
    estimated = EnergyDensity(Gaussian(), result.log_z, scale=SCALE).log_prob(x)
    assert ((estimated - exact).abs() < 0.05).all()

    of_x, of_y = (bits_per_dim(EnergyDensity(Gaussian(), LOG_Z, scale=a).log_prob(v), DIM, bins=1)
                  for a, v in ((SCALE, x), (1.0, SCALE * x)))  # fmt: skip
    torch.testing.assert_close(of_x - of_y, torch.full_like(of_x, -math.log2(SCALE)))
    error = (bits_per_dim(estimated, DIM) - bits_per_dim(exact, DIM)).abs()
    assert (error < 0.05 / (DIM * math.log(2))).all()
