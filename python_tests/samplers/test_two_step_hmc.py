"""HMC of two leapfrog steps whose size adapts to each of a sequence of densities (Gao 2021)."""

import pytest
import torch
from testing.chain_testing import assert_means, key, normal

from gencore.samplers import HMC, warm_up

PRECISION = torch.tensor([[2.0, -0.9], [-0.9, 1.0]])
CHAINS, STEPS = 1000, 100


def gaussian(scale):
    """Of covariance scale²·P⁻¹."""
    return lambda x: 0.5 * ((x @ PRECISION) * x).sum(1) / scale**2


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0])
def test_the_step_size_adapts_and_the_moments_are_exact(scale):
    """From 1000 chains of 100 transitions the acceptance rate comes into [0.6, 0.9].

    The step size is that of the scale, since the transitions on scale²·P⁻¹ are those on P⁻¹ in
    other units, and the mean and covariance have no error but that of the chains.
    """
    first_guess = 0.01
    sampler, x, info = warm_up(
        HMC(gaussian(scale), first_guess, 2), normal(CHAINS, 2), STEPS,
        adapt_mass=False, key=key(1),
    )  # fmt: skip
    assert info.acceptance_rate.shape == (STEPS,)
    assert 0.5 < sampler.step_size / scale < 2
    path, info = sampler.sample(x, 2 * STEPS, return_trajectory=True, return_info=True, key=key(2))
    assert 0.6 < info.acceptance_rate.mean().item() < 0.9
    late = path[STEPS:]  # [T, N, 2]; chains are independent of each other
    assert_means(late.mean(0), torch.zeros(2))
    products = (late[..., :, None] * late[..., None, :]).mean(0)
    assert_means(products, scale**2 * torch.linalg.inv(PRECISION))
