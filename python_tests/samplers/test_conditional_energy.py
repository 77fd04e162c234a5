"""Chains of some elements given the others: the conditional of a Gaussian in closed form."""

import math

import pytest
import torch
from torch import Tensor

from gencore.samplers import HMC, ConditionalEnergy, Langevin

_PRECISION = torch.tensor(
    [[2.0, 0.6, -0.4, 0.0], [0.6, 1.5, 0.3, 0.2], [-0.4, 0.3, 1.8, -0.5], [0.0, 0.2, -0.5, 1.2]],
    dtype=torch.float64,
)
_FREE = torch.tensor([True, False, True, False])
_OBSERVED = torch.tensor([[0.0, 1.5, 0.0, -0.7]], dtype=torch.float64)


def _gaussian(x: Tensor) -> Tensor:
    return 0.5 * (x @ _PRECISION * x).sum(1)


def test_hmc_draws_from_the_conditional_of_a_gaussian() -> None:
    num = 20_000
    energy = ConditionalEnergy(_gaussian, _OBSERVED, _FREE)
    sampler = HMC(energy, step_size=0.35, num_leapfrog=4)
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(num, 4, dtype=torch.float64)
    x = energy.complete(sampler.sample(start, 30, generator=generator))
    free, seen = _PRECISION[_FREE][:, _FREE], _PRECISION[_FREE][:, ~_FREE]
    covariance = torch.linalg.inv(free)
    mean = -covariance @ seen @ _OBSERVED[0, ~_FREE]
    error = (covariance.diagonal() / num).sqrt()
    assert ((x[:, _FREE].mean(0) - mean).abs() < 4.5 * error).all()
    found = torch.cov(x[:, _FREE].T)
    spread = (covariance.diagonal().outer(covariance.diagonal()) + covariance**2).sqrt()
    assert ((found - covariance).abs() < 4.5 * spread / math.sqrt(num)).all()


def test_what_was_observed_keeps_its_bits() -> None:
    observed = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    is_free = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    is_free[..., :2] = True
    energy = ConditionalEnergy(lambda x: x.flatten(1).square().sum(1), observed, is_free)
    x = energy.complete(Langevin(energy, 0.1).sample(torch.zeros(3, 1, 4, 4), 5))
    assert torch.equal(x[..., 2:], observed[..., 2:])
    assert not torch.isin(x[..., :2], observed).any()


def test_bad_input() -> None:
    observed, is_free = torch.zeros(2, 3), torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(TypeError, match="ConditionalEnergy: is_free is"):
        ConditionalEnergy(_gaussian, observed, is_free.float())
    with pytest.raises(ValueError, match=r"is_free has shape \[1, 4\].*\[2, 3\]"):
        ConditionalEnergy(_gaussian, observed, torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="not finite"):
        ConditionalEnergy(_gaussian, observed + math.nan, ~is_free)
    ConditionalEnergy(_gaussian, observed + math.nan, is_free)  # nobody looks there
    shared = ConditionalEnergy(_gaussian, torch.ones(1, 3), torch.eye(3).bool())
    assert torch.equal(shared.complete(torch.zeros(3, 3)), 1 - torch.eye(3))
    with pytest.raises(ValueError, match=r"for states of shape \[4, 3\]"):
        ConditionalEnergy(_gaussian, observed, is_free)(torch.zeros(4, 3))
