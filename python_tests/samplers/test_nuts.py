"""NUTS: moments known in closed form, and what a transition promises."""

import math

import pytest
import torch
from testing.chain_testing import Counted, assert_means, key, normal, quadratic
from testing.posteriors import eight_schools, linear_regression, logistic_regression, mixture

from gencore.ops import backend, split_key
from gencore.samplers import HMC, NUTS, warm_up
from gencore.samplers.energy import energy_and_grad


def funnel(x):
    """Neal's, less steep: v = x₀ ~ N(0, 1), x_i ~ N(0, e^v)."""
    v, rest = x[:, 0], x[:, 1:]
    return v**2 / 2 + rest.square().sum(1) * torch.exp(-v) / 2 + rest.shape[1] * v / 2


class TestMoments:
    def test_standard_gaussian(self, device):
        """At step sizes where the leapfrog map alone would give a variance of 1/(1 − ε²/4)."""
        for step_size, seed in ((0.4, 1), (1.2, 2)):
            sampler, x = NUTS(quadratic(), step_size), torch.full((20_000, 3), 2.0, device=device)
            x = sampler.sample(x, 15, key=key(seed, device))
            assert_means(x, torch.zeros(3))
            assert_means(x**2, torch.ones(3))
            assert_means(x**4, torch.full((3,), 3.0))
            assert_means(x[:, 0] * x[:, 1], 0.0)

    @pytest.mark.parametrize("kind", ["number", "chains", "diagonal"])
    def test_any_mass_samples_the_same_correlated_gaussian(self, kind):
        num = 8000
        inverse_mass = {
            "number": 0.5,
            "chains": torch.linspace(0.25, 1.2, num),
            "diagonal": torch.tensor([[0.2, 3.0]]),
        }[kind]
        precision = torch.tensor([[2.0, -0.9], [-0.9, 1.0]])
        sampler = NUTS(lambda x: 0.5 * ((x @ precision) * x).sum(1), 0.6, inverse_mass=inverse_mass)
        x = sampler.sample(torch.zeros(num, 2), 12, key=key(3))
        assert_means(x, torch.zeros(2))
        assert_means(x[:, :, None] * x[:, None], torch.linalg.inv(precision))

    def test_step_sizes_may_differ_between_chains(self):
        sizes = torch.linspace(0.2, 1.6, 10_000)
        x = NUTS(quadratic(), sizes).sample(normal(10_000, 2), 8, key=key(4))
        assert_means(x.square().view(5, 2000, 2).transpose(0, 1), torch.ones(5, 2))

    @pytest.mark.parametrize("max_tree_depth", [1, 2, 4])
    def test_trees_that_are_cut_short_are_unbiased_too(self, max_tree_depth):
        """From exact draws, with trajectories of at most 1, 3 and 15 steps."""
        sampler = NUTS(quadratic(), 0.9, max_tree_depth)
        x, info = sampler.sample(normal(40_000, 1), 6, key=key(5), return_info=True)
        assert_means(x**2, 1.0)
        assert_means(x**4, 3.0)
        assert info.tree_depth.max() == min(max_tree_depth, 2)  # it turns before the third

    def test_funnel_keeps_its_own_draws(self):
        """From exact draws (v, e^(v/2) z) every transition leaves v and z what they were."""
        v, z = normal(20_000, 1), normal(20_000, 3, seed=1)
        start = torch.cat([v, torch.exp(v / 2) * z], 1)
        sampler = NUTS(funnel, 0.5, max_tree_depth=5)
        x, info = sampler.sample(start, 8, key=key(7), return_info=True)
        assert 0.5 < info.acceptance_rate.mean() < 0.98
        assert len(info.tree_depth.unique()) > 4  # which depends on v
        assert_means(x[:, 0], 0.0)
        assert_means(x[:, 0] ** 2, 1.0)
        assert_means(x[:, 0] ** 4, 3.0)
        z = x[:, 1:] * torch.exp(-x[:, :1] / 2)
        assert_means(z**2, torch.ones(3))
        assert_means(x[:, 0, None] * z**2, torch.zeros(3))

    def test_gamma_whose_energy_is_nan_below_zero(self):
        """Gamma(3, 1): E = x − 2 log x, and log x is NaN for x < 0."""
        sampler = NUTS(lambda x: (x - 2 * x.log()).squeeze(1), 0.5)
        x, info = sampler.sample(torch.ones(10_000, 1), 20, key=key(8), return_info=True)
        assert (x > 0).all()
        assert info.is_divergent.any()
        assert_means(x, 3.0)
        assert_means(x**2, 12.0)
        assert_means(x.log(), 1.5 - 0.5772156649)  # digamma(3)

    def test_four_standard_errors_can_fail(self):
        x = NUTS(quadratic(1.06), 0.8).sample(normal(20_000, 2), 10, key=key(1))
        with pytest.raises(AssertionError):
            assert_means(x**2, torch.ones(2))


@pytest.mark.parametrize(
    "make",
    [
        eight_schools,
        mixture,
        pytest.param(logistic_regression, marks=pytest.mark.slow),
        pytest.param(linear_regression, marks=pytest.mark.slow),
    ],
)
def test_posteriors(make):
    """After a warm-up, means over time and 500 independent chains."""
    posterior = make()
    sampler = NUTS(posterior.energy, 0.1, max_tree_depth=6)
    start = normal(500, posterior.dim)
    sampler, x, _ = warm_up(sampler, start, 120, key=key(1))
    trajectory, info = sampler.sample(x, 60, key=key(2), return_trajectory=True, return_info=True)
    assert_means(posterior.functions(trajectory.double()).mean(0), posterior.means)
    assert 0.7 < info.acceptance_rate.mean() < 0.95
    assert info.is_divergent.float().mean() < 2e-3


class TestWarmUp:
    def test_it_finds_the_scales_and_the_rate(self):
        scale = torch.tensor([0.1, 1.0, 10.0])
        sampler = NUTS(lambda x: 0.5 * (x / scale).square().sum(1), 0.01)
        sampler, x, info = warm_up(sampler, normal(200, 3), 100, key=key(1))
        assert isinstance(sampler, NUTS)
        torch.testing.assert_close(sampler.inverse_mass.sqrt(), scale[None], rtol=0.1, atol=0.0)
        _, info = sampler.sample(x, 10, key=key(2), return_info=True)
        assert 0.7 < info.acceptance_rate.mean() < 0.95
        assert info.num_leapfrog.double().mean() < 8


class TestTransitions:
    def test_a_trajectory_of_half_a_period(self):
        """On N(0, I) in many dimensions a trajectory turns where the flow has, at a length of π.

        In between the tests at 2, 4, 8, … steps it is doubled, so its length is π to 2π.
        """
        sampler = NUTS(quadratic(), 0.05)
        _, info = sampler.sample(normal(20, 1000), 3, key=key(1), return_info=True)
        length = 0.05 * (2.0**info.tree_depth - 1)
        assert (length > 0.95 * math.pi).all()
        assert (length < 1.05 * 2 * math.pi).all()

    @pytest.mark.parametrize("step_size", [0.1, 0.42])
    def test_a_trajectory_of_a_period_is_seen_to_turn(self, step_size):
        """On N(0, I) in 200 dimensions, where 64 steps of 0.1, or 16 of 0.42, are a whole period.

        Its ends are as good as one state, and either half of it has not turned yet.
        """
        sampler = NUTS(quadratic(), step_size)
        _, info = sampler.sample(normal(16, 200), 20, key=key(1), return_info=True)
        assert step_size * info.num_leapfrog.max() < 1.05 * 2 * math.pi

    def test_a_transition_costs_a_gradient_for_each_leaf_of_the_longest_tree(self):
        energy = Counted(quadratic())
        _, info = NUTS(energy, 0.3).sample(normal(30, 2), 5, key=key(1), return_info=True)
        assert energy.calls == 1 + info.num_leapfrog.amax(1).sum()
        assert len(info.num_leapfrog.unique()) > 2

    def test_the_tree_is_cut_at_its_depth(self):
        sampler = NUTS(quadratic(), 0.001, max_tree_depth=4)
        _, info = sampler.sample(normal(30, 2), 3, key=key(1), return_info=True)
        assert (info.tree_depth == 4).all()
        assert (info.num_leapfrog == 15).all()
        assert not info.is_divergent.any()

    def test_repeated_steps_are_a_sample(self):
        sampler, x = NUTS(funnel, 0.4), normal(50, 3)
        states, infos = sampler.sample(x, 5, key=key(11), return_trajectory=True, return_info=True)
        state = sampler.init(x)
        for number, step_key in enumerate(split_key(key(11), 5)):
            before = tuple(t.clone() for t in state)
            after, info = sampler.step(state, key=step_key)
            for one, other in zip(state, before, strict=True):
                assert torch.equal(one, other)
            assert torch.equal(after.position, states[number])
            for one, several in zip(info, infos, strict=True):
                assert torch.equal(one, several[number])
            state = after

    def test_what_is_carried_belongs_to_the_position(self):
        sampler, state = NUTS(funnel, 0.9), NUTS(funnel, 0.9).init(normal(300, 3))
        for step_key in split_key(key(12), 4):
            state, info = sampler.step(state, key=step_key)
            energy, grad = energy_and_grad(funnel, state.position)
            torch.testing.assert_close(state.energy, energy)
            torch.testing.assert_close(state.grad, grad)
            assert torch.equal(info.energy, state.energy)

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 2)])
    def test_parts_of_a_batch_run_the_chains_of_the_whole(self, shape, device):
        def energy(x):
            return x.reshape(len(x), -1).pow(4).sum(1)

        sampler, x = NUTS(energy, 0.3), normal(11, *shape, dtype=torch.float64, device=device)
        size = math.prod(shape)
        whole, info = sampler.sample(x, 6, key=key(13, device), return_info=True)
        assert len(info.tree_depth.unique()) > 1
        parts = [
            sampler.sample(x[first:last], 6, key=key(13, device), first_element=first * size)
            for first, last in ((0, 2), (2, 7), (7, 11))
        ]
        torch.testing.assert_close(torch.cat(parts), whole)

    def test_trajectory_and_thinning(self):
        sampler, x = NUTS(quadratic(), 0.5), normal(5, 2)
        options = {"key": key(14), "return_info": True}
        states, infos = sampler.sample(x, 6, return_trajectory=True, **options)
        thinned, thinned_infos = sampler.sample(x, 6, return_trajectory=True, thin=3, **options)
        assert torch.equal(thinned, states[2::3])
        for one, other in zip(infos, thinned_infos, strict=True):
            assert one.shape == (6, 5)
            assert torch.equal(one[2::3], other)
        assert torch.equal(sampler.sample(x, 6, key=key(14)), states[-1])

    def test_both_backends_run_the_same_chains(self):
        sampler, x = NUTS(funnel, 0.3), normal(50, 3, dtype=torch.float64)
        native = sampler.sample(x, 4, key=key(22))
        with backend("reference"):
            torch.testing.assert_close(sampler.sample(x, 4, key=key(22)), native)

    def test_seeds(self):
        sampler, x = NUTS(quadratic(), 0.5), torch.zeros(7, 3)

        def seeded(seed):
            return sampler.sample(x, 4, generator=torch.Generator().manual_seed(seed))

        assert torch.equal(seeded(0), seeded(0))
        assert not torch.equal(seeded(0), seeded(1))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_dtypes(self, dtype):
        """Half precision rounds the positions to 3 digits: within a percent of the moments."""
        start = normal(4000, 2).to(dtype)
        x, info = NUTS(quadratic(), 0.5).sample(start, 10, key=key(16), return_info=True)
        assert x.dtype == dtype
        assert info.energy.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        error = 4 * math.sqrt(2 / x.numel()) + (0.01 if dtype != torch.float64 else 0)
        assert abs(x.double().square().mean().item() - 1) < error

    def test_no_chains_and_no_steps(self):
        x, info = NUTS(quadratic(), 0.1).sample(torch.zeros(0, 2), 3, return_info=True)
        assert x.shape == (0, 2)
        assert info.num_leapfrog.shape == (3, 0)
        x, info = NUTS(quadratic(), 0.1).sample(torch.zeros(4, 2), 0, return_info=True)
        assert info.tree_depth.shape == (0, 4)

    @pytest.mark.parametrize("depth", [0, 21])
    def test_depths_that_no_tree_has(self, depth):
        with pytest.raises(ValueError, match=f"NUTS: max_tree_depth is {depth}; expected 1 to 20"):
            NUTS(quadratic(), 0.1, depth)


class TestNonFinite:
    @pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
    def test_states_in_a_hole_are_counted_and_never_stored(self, hole):
        def energy(x):
            return torch.where(x[:, 0] > 1, hole, 0.5 * x.square().sum(1))

        sampler, x = NUTS(energy, 0.5), normal(2000, 2).clamp(max=0.9)
        state, seen = sampler.init(x), 0
        for step_key in split_key(key(18), 5):
            state, info = sampler.step(state, key=step_key)
            assert (state.position[:, 0] <= 1).all()
            assert all(t.isfinite().all() for t in state)
            assert info.acceptance_rate.isfinite().all()
            seen += info.is_divergent.sum()
        assert 1000 < seen < 9000

    def test_energy_errors_above_the_bound_are_divergent(self):
        """ε = 3 is unstable: H grows from step to step, until the bound stops it."""
        sampler = NUTS(quadratic(), 3.0, max_energy_error=2.0)
        state, info = sampler.step(sampler.init(normal(2000, 1)), key=key(20))
        assert 100 < info.is_divergent.sum() < 2000
        assert state.position.abs().max() < 10

    def test_chains_outside_fly_in(self):
        """From where the energy is infinite, and its gradient NaN, into the half-line x > 0."""
        sampler = NUTS(lambda x: torch.where(x > 0, x, torch.inf).squeeze(1), 0.7)
        after = sampler.sample(torch.full((4000, 1), -0.3), 60, key=key(21))
        assert (after > 0).all()
        assert_means(after, 1.0)


def test_it_needs_fewer_gradients_than_a_trajectory_of_fixed_length():
    """Per gradient, on N(0, I) from one point: HMC whose length is a whole period never moves."""
    period, x = 2 * math.pi, torch.full((2000, 5), 1.0)
    nuts, info = NUTS(quadratic(), period / 16).sample(x, 1, key=key(1), return_info=True)
    hmc = HMC(quadratic(), period / 16, 16).sample(x, 1, key=key(1))
    assert info.num_leapfrog.max() < 16
    assert (nuts - 1).square().mean() > 20 * (hmc - 1).square().mean()
