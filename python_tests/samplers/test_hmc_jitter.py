"""Jittered step sizes of HMC: their law, and what they mend."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal, quadratic

from gencore.nn import MLPEnergy
from gencore.ops import philox_normal, split_key
from gencore.samplers import HMC


def test_it_mixes_where_the_trajectory_is_a_period():
    """All axes of N(0, I) return after L steps of ε with cos(2π/L) = 1 − ε²/2."""
    num_leapfrog, x = 12, torch.full((4000, 2), 2.0)
    step_size = math.sqrt(2 - 2 * math.cos(2 * math.pi / num_leapfrog))
    fixed = HMC(quadratic(), step_size, num_leapfrog).sample(x, 20, key=key(1))
    torch.testing.assert_close(fixed, x, rtol=1e-3, atol=1e-3)
    sampler = HMC(quadratic(), step_size, num_leapfrog, step_size_jitter=0.3)
    x = sampler.sample(x, 20, key=key(1))
    assert_means(x, torch.zeros(2))
    assert_means(x**2, torch.ones(2))


def test_the_draws_are_spread_over_the_interval():
    """On a constant energy the chain moves by (1 + ju) ε p: the ratio of moves shows u."""
    sampler = HMC(lambda x: 0 * x.sum(1), 0.5, 1, step_size_jitter=0.4)
    state, factors = sampler.init(torch.zeros(3, 1)), []
    for step_key in split_key(key(2), 2000):
        moved, _ = sampler.step(state, key=step_key)
        ratio = moved.position / (0.5 * philox_normal((3, 1), step_key))
        torch.testing.assert_close(ratio, ratio[:1].expand(3, 1))  # one for all chains
        factors.append(ratio[0])
    factors = torch.stack(factors)
    assert factors.min() > 0.6
    assert factors.max() < 1.4
    assert_means(factors, 1.0)
    assert_means((factors - 1) ** 2, 0.4**2 / 3)


def test_parts_of_a_batch_and_whole_chains_on_networks():
    energy = MLPEnergy(2, hidden_widths=(8,))
    sampler, x = HMC(energy, 0.3, 3, step_size_jitter=0.5), normal(6, 2)
    whole = sampler.sample(x, 5, key=key(3))
    other = HMC(lambda x: energy(x), 0.3, 3, step_size_jitter=0.5).sample(x, 5, key=key(3))
    torch.testing.assert_close(whole, other)
    part = sampler.sample(x[2:], 5, key=key(3), first_element=4)
    torch.testing.assert_close(part, whole[2:])
    plain = HMC(energy, 0.3, 3).sample(x, 5, key=key(3))
    assert not torch.allclose(plain, whole)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, math.nan])
def test_bad_jitter(jitter):
    with pytest.raises(ValueError, match="HMC: step_size_jitter"):
        HMC(quadratic(), 0.1, 2, step_size_jitter=jitter)
