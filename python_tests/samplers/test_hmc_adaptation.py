"""Hamiltonian Monte Carlo with an adapted step, as Gao 2022 (§2.3.5.2) runs it."""

import torch
from testing.chain_testing import assert_means, key

from gencore.ops import leapfrog_end, leapfrog_start, leapfrog_step
from gencore.samplers import HMC, warm_up

PRECISION = torch.tensor([[2.0, -0.9, 0.0], [-0.9, 1.0, 0.3], [0.0, 0.3, 0.5]]).double()
NUM_LEAPFROG = 2


def energy(x):
    return 0.5 * ((x @ PRECISION) * x).sum(1)


def trajectory(x, noise, step_size, num_steps):
    """The end, its momentum, and the change of H."""
    x1, momentum, kinetic = leapfrog_start(x, x @ PRECISION, step_size, noise=noise)
    for _ in range(num_steps - 1):
        x1, momentum = leapfrog_step(x1, momentum, x1 @ PRECISION, step_size)
    end = leapfrog_end(momentum, x1 @ PRECISION, step_size)
    return x1, end.momentum, energy(x1) + end.kinetic - energy(x) - kinetic


def test_reversible_second_order_adapted_and_exact():
    """Flipped momenta return to 1e-10, ΔH falls as ε², 1,000 chains of 2 leapfrog steps are brought
    to an acceptance in [0.6, 0.9] within 100 steps, and then have the moments of N(0, P⁻¹)."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 1000, 3, dtype=torch.float64, generator=generator)

    there, momentum, _ = trajectory(x, noise, 0.3, 20)
    back, _, _ = trajectory(there, -momentum, 0.3, 20)
    assert (back - x).abs().max() < 1e-10

    sizes = torch.tensor([0.2, 0.1, 0.05, 0.025])
    errors = torch.stack(
        [trajectory(x, noise, size, round(1 / size))[2].abs().mean() for size in sizes.tolist()]
    )
    slopes = (errors.log().diff() / sizes.log().diff()).tolist()
    assert all(1.9 < slope < 2.1 for slope in slopes)

    # A step that is far too long is found out, whatever the mass.
    start = HMC(energy, step_size=5.0, num_leapfrog=NUM_LEAPFROG)
    sampler, x, _ = warm_up(start, x, 100, adapt_mass=False, target_acceptance=0.75, key=key(1))
    x, info = sampler.sample(x, 60, return_info=True, key=key(2))
    assert 0.6 < info.acceptance_rate.mean() < 0.9
    covariance = torch.linalg.inv(PRECISION)
    assert_means(x, 0.0)
    assert_means((x[:, :, None] * x[:, None]).flatten(1), covariance.flatten())
