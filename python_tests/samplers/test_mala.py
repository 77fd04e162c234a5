"""MALA: the Metropolis–Hastings ratio of its proposal, and the bias that it takes from ULA."""

import math

import pytest
import torch
from testing.chain_testing import Counted, assert_means, key, normal, quadratic
from torch.distributions import Independent, Normal

from gencore.ops import philox_normal
from gencore.samplers import HMC, MALA, Langevin
from gencore.samplers.energy import energy_and_grad


def quartic(x):
    return (x.pow(4) / 4 - x.square() + x.cos()).sum(1) + x.prod(1)


class TestDecision:
    @pytest.mark.parametrize("inverse_mass", [1.0, torch.tensor([[0.3, 1.0, 2.5]]).double()])
    @pytest.mark.parametrize("step_size", [0.02, torch.linspace(0.001, 0.3, 500).double()])
    def test_it_is_that_of_the_explicit_proposal_density(self, step_size, inverse_mass):
        """min(1, p(x') q(x | x') / (p(x) q(x' | x))), q(y | x) = N(y; x − a m⁻¹∇E(x), 2a m⁻¹)."""
        x = normal(500, 3, dtype=torch.float64)
        sampler = MALA(quartic, step_size, inverse_mass=inverse_mass)
        state, info = sampler.step(sampler.init(x), key=key(1))

        rows = torch.as_tensor(step_size).reshape(-1, 1)

        def proposal(x):
            energy, grad = energy_and_grad(quartic, x)
            scale = (2 * rows * inverse_mass).sqrt() * torch.ones_like(x)
            return energy, Independent(Normal(x - rows * inverse_mass * grad, scale), 1)

        noise = philox_normal(x.shape, key(1), dtype=torch.float64)
        energy, forward = proposal(x)
        y = forward.base_dist.loc + forward.base_dist.scale * noise
        energy_there, backward = proposal(y)
        log_ratio = energy - energy_there + backward.log_prob(x) - forward.log_prob(y)
        torch.testing.assert_close(info.acceptance_rate, log_ratio.clamp(max=0).exp())
        assert (log_ratio < -0.01).sum() > 20
        assert 5 < info.is_accepted.sum() < 500
        torch.testing.assert_close(state.position, torch.where(info.is_accepted[:, None], y, x))

    def test_it_is_one_leapfrog_step_of_hmc(self):
        """ε = √(2a), as drawn from the same key."""
        x = normal(200, 3)
        mala = MALA(quartic, 0.08).sample(x, 10, key=key(2), return_info=True)
        hmc = HMC(quartic, 0.4, 1).sample(x, 10, key=key(2), return_info=True)
        torch.testing.assert_close(mala[0], hmc[0])
        assert torch.equal(mala[1].is_accepted, hmc[1].is_accepted)

    def test_accepted_as_often_as_its_rate_says(self):
        x = normal(20_000, 2)
        _, info = MALA(quartic, 0.3).sample(x, 5, key=key(3), return_info=True)
        assert 0.2 < info.acceptance_rate.mean() < 0.95
        excess = info.is_accepted.double() - info.acceptance_rate
        assert_means(excess.mean(0), 0.0)

    def test_a_transition_costs_one_gradient(self):
        energy = Counted(quadratic())
        MALA(energy, 0.1).sample(torch.zeros(3, 2), 9)
        assert energy.calls == 10


class TestBias:
    """On N(0, 1/λ) an unadjusted step is x' = (1 − aλ) x + √(2a) ξ.

    Its stationary variance v solves v = (1 − aλ)² v + 2a: v = 1/(λ(1 − aλ/2)).
    """

    @pytest.mark.parametrize(("precision", "step_size"), [(1.0, 0.5), (4.0, 0.3), (0.5, 2.0)])
    def test_ula_has_it(self, precision, step_size):
        sampler = Langevin(quadratic(precision), step_size)
        x = sampler.sample(normal(40_000, 1), 60, key=key(4))
        expected = 1 / (precision * (1 - step_size * precision / 2))
        assert_means(x**2, expected)
        with pytest.raises(AssertionError):
            assert_means(x**2, 1 / precision)

    @pytest.mark.parametrize(("precision", "step_size"), [(1.0, 0.5), (4.0, 0.3), (0.5, 2.0)])
    def test_mala_has_not(self, precision, step_size):
        sampler = MALA(quadratic(precision), step_size)
        x = sampler.sample(normal(40_000, 1), 60, key=key(5))
        assert_means(x**2, 1 / precision)
        assert_means(x**4, 3 / precision**2)


class TestMoments:
    def test_correlated_gaussian(self, device):
        precision = torch.tensor([[2.0, -0.9], [-0.9, 1.0]], device=device)
        sampler = MALA(lambda x: 0.5 * ((x @ precision) * x).sum(1), 0.4)
        x = sampler.sample(torch.zeros(20_000, 2, device=device), 60, key=key(6, device))
        assert_means(x, torch.zeros(2))
        assert_means(x[:, :, None] * x[:, None], torch.linalg.inv(precision.cpu()))

    def test_preconditioned(self):
        """Scales that differ by 100 mix as fast as equal ones with m⁻¹ the variances."""
        scale = torch.tensor([0.1, 1.0, 10.0])
        sampler = MALA(
            lambda x: 0.5 * (x / scale).square().sum(1), 0.4, inverse_mass=scale[None] ** 2
        )
        x = sampler.sample(torch.zeros(20_000, 3), 40, key=key(7))
        assert_means((x / scale) ** 2, torch.ones(3))

    def test_gamma_whose_energy_is_nan_below_zero(self):
        """Gamma(3, 1), with E log x = digamma(3)."""
        sampler = MALA(lambda x: (x - 2 * x.log()).squeeze(1), 0.5)
        x, info = sampler.sample(torch.ones(10_000, 1), 150, key=key(8), return_info=True)
        assert (x > 0).all()
        assert info.is_divergent.any()
        assert_means(x, 3.0)
        assert_means(x.log(), 1.5 - 0.5772156649)

    def test_parts_of_a_batch_run_the_chains_of_the_whole(self):
        sampler, x = MALA(quartic, 0.1), normal(9, 3)
        whole = sampler.sample(x, 10, key=key(9))
        parts = [
            sampler.sample(x[first:last], 10, key=key(9), first_element=3 * first)
            for first, last in ((0, 4), (4, 9))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)

    def test_free_diffusion(self):
        """Four steps √(2a) ξ from the origin of a flat energy, always accepted."""
        x = MALA(lambda x: 0 * x.sum(1), 0.5).sample(torch.zeros(20_000, 1), 4, key=key(10))
        assert_means(x**2, 4 * 2 * 0.5)
        assert_means(x, 0.0)

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match=r"MALA.sample: num_steps is -1"):
            MALA(quadratic(), 0.1).sample(torch.zeros(2, 1), -1)
        with pytest.raises(ValueError, match=r"MALA.init: 1 of 2 chains"):
            MALA(quadratic(), 0.1).init(torch.tensor([[0.0], [math.nan]]))
