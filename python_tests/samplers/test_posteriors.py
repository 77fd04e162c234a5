"""Warm-up and sampling, as one would use them, on posteriors whose moments are known exactly."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal
from testing.posteriors import POSTERIORS, eight_schools, logistic_regression

from gencore.samplers import HMC, MALA, summary, warm_up


def run(posterior, sampler, num_steps, *, num_chains=1000, num_warm_up=400):
    """A trajectory [num_steps, N, dim] from wide starts, and what its transitions did."""
    start = normal(num_chains, posterior.dim)
    sampler, x, _ = warm_up(sampler, start, num_warm_up, key=key(1))
    return sampler.sample(x, num_steps, key=key(2), return_trajectory=True, return_info=True)


@pytest.mark.parametrize("make", POSTERIORS)
def test_hmc(make):
    """Means over time and 1000 independent chains, whose spread is the standard error."""
    posterior = make()
    sampler = HMC(posterior.energy, 0.1, posterior.num_leapfrog)
    trajectory, info = run(posterior, sampler, 200)
    assert_means(posterior.functions(trajectory.double()).mean(0), posterior.means)
    # Near a Gaussian the rate of two leapfrog steps is 1 again at ε = √2: it may end above 0.8.
    assert 0.75 < info.acceptance_rate.mean() < 0.95
    assert (info.acceptance_rate.mean(0) > 0.3).all()  # no chain is stuck where it started
    assert info.is_divergent.float().mean() < 1e-3


@pytest.mark.slow
def test_mala():
    posterior = logistic_regression()
    trajectory, _ = run(posterior, MALA(posterior.energy, 0.01), 600)
    assert_means(posterior.functions(trajectory.double()).mean(0), posterior.means)


@pytest.mark.slow
def test_diagnostics_of_eight_schools():
    """Four chains: R-hat near 1, and Monte Carlo errors that cover the distance to the truth."""
    posterior = eight_schools()
    sampler = HMC(posterior.energy, 0.1, posterior.num_leapfrog)
    trajectory, _ = run(posterior, sampler, 1000, num_chains=4, num_warm_up=1000)
    table = summary(posterior.functions(trajectory))
    assert (table["r_hat"] < 1.02).all()
    assert (table["ess_bulk"] > 400).all()
    distance = torch.tensor(table["mean"].to_numpy()) - posterior.means
    assert (distance.abs() < 4 * torch.tensor(table["mcse_mean"].to_numpy())).all()
    assert not math.isnan(table["ess_tail"].min())


@pytest.mark.slow
def test_four_standard_errors_can_fail():
    """A density colder by 3%, with standard deviations smaller by 1.5%, is told apart."""
    posterior = logistic_regression()
    trajectory, _ = run(posterior, HMC(lambda x: 1.03 * posterior.energy(x), 0.1, 2), 200)
    with pytest.raises(AssertionError):
        assert_means(posterior.functions(trajectory.double()).mean(0), posterior.means)
