"""Unadjusted Langevin steps in the units δ²/2 and δ: every moment of a Gaussian's chains."""

import pytest
import torch
from testing.chain_testing import assert_means, assert_variance, key

from gencore.samplers import Langevin

VARIANCE, NOISE_STD = 1.7, 0.8


@pytest.mark.parametrize("num_steps", [1, 5, 60])
def test_moments_after_l_steps_on_a_gaussian(num_steps):
    """On N(0, s²), with r = 1 − δ²/2s²: mean rˡx₀, variance V(1 − r²ˡ), V = s²/(1 − δ²/4s²).

    V, and not s², is also the variance of the stationary chains: 1.877 for s² = 1.7.
    """
    start, num = 2.5, 100_000
    sampler = Langevin.from_noise_std(lambda x: 0.5 * x.square().sum(1) / VARIANCE, NOISE_STD)
    x = sampler.sample(torch.full((num, 1), start), num_steps, key=key(num_steps))
    stationary = VARIANCE / (1 - NOISE_STD**2 / (4 * VARIANCE))
    assert stationary == pytest.approx(1.877, abs=1e-3)
    decay = (1 - NOISE_STD**2 / (2 * VARIANCE)) ** num_steps
    assert_means(x, decay * start)
    assert_variance(x - decay * start, stationary * (1 - decay**2))
    if num_steps == 60:
        assert decay**2 < 1e-6  # stationary
        assert_variance(x, stationary)
        second = x.double().square().mean().item()
        assert second > 1.05 * VARIANCE  # twelve errors above s²


def test_without_noise_it_climbs_to_the_mode():
    """x_l = rˡ x₀."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    sampler = Langevin.noise_free(lambda x: 0.5 * x.square().sum(1) / VARIANCE, NOISE_STD**2 / 2)
    decay = 1 - NOISE_STD**2 / (2 * VARIANCE)
    torch.testing.assert_close(sampler.sample(x, 200), decay**200 * x)
