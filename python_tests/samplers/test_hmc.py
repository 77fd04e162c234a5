"""HMC: moments known in closed form, and what a transition promises."""

import math

import pytest
import torch
from testing.chain_testing import Counted, assert_means, key, normal, quadratic

from gencore.ops import (
    backend,
    philox_normal,
    split_key,
)
from gencore.samplers import HMC
from gencore.samplers.energy import energy_and_grad


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def banana(x):
    """x₀ ~ N(0, 1), x₁ = z + x₀² − 1 with z ~ N(0, ½²)."""
    return x[:, 0] ** 2 / 2 + 2 * (x[:, 1] - x[:, 0] ** 2 + 1) ** 2


def funnel(x):
    """Neal's, less steep: v = x₀ ~ N(0, 1), x_i ~ N(0, e^v)."""
    v, rest = x[:, 0], x[:, 1:]
    return v**2 / 2 + rest.square().sum(1) * torch.exp(-v) / 2 + rest.shape[1] * v / 2


class TestMoments:
    def test_standard_gaussian(self, device):
        sampler = HMC(quadratic(), step_size=0.3, num_leapfrog=4)
        x = sampler.sample(torch.full((20_000, 3), 2.0, device=device), 30, key=key(1, device))
        assert_means(x, torch.zeros(3))
        assert_means(x**2, torch.ones(3))
        assert_means(x**4, torch.full((3,), 3.0))
        assert_means(x[:, 0] * x[:, 1], 0.0)

    def test_gaussian_with_long_steps(self):
        """ε = 1.7: unadjusted, the variance would be 1/(1 − ε²/4), 3.6 times too large."""
        x = HMC(quadratic(), 1.7, 3).sample(normal(20_000, 2), 30, key=key(2))
        assert_means(x**2, torch.ones(2))

    @pytest.mark.parametrize("kind", ["number", "chains", "diagonal", "full"])
    def test_any_mass_samples_the_same_density(self, kind):
        num = 20_000
        inverse_mass = {
            "number": 0.5,
            "chains": torch.linspace(0.25, 1.2, num),
            "diagonal": torch.tensor([[0.2, 3.0]]),
            "full": torch.linspace(0.25, 1.2, 2 * num).view(num, 2),
        }[kind]
        precision = torch.tensor([[2.0, -0.9], [-0.9, 1.0]])
        sampler = HMC(
            lambda x: 0.5 * ((x @ precision) * x).sum(1), 0.3, 5, inverse_mass=inverse_mass
        )
        x = sampler.sample(torch.zeros(num, 2), 25, key=key(3))
        assert_means(x, torch.zeros(2))
        assert_means(x[:, :, None] * x[:, None], torch.linalg.inv(precision))

    def test_step_sizes_may_differ_between_chains(self):
        sizes = torch.linspace(0.1, 1.5, 20_000)
        x = HMC(quadratic(), sizes, 4).sample(normal(20_000, 2), 20, key=key(4))
        assert_means(x.square().view(10, 2000, 2).transpose(0, 1), torch.ones(10, 2))

    def test_two_modes(self):
        """½N(−2, 1) + ½N(2, 1), from a symmetric start: variance 5, fourth moment 43."""

        def energy(x):
            return -torch.logaddexp(-0.5 * (x - 2) ** 2, -0.5 * (x + 2) ** 2).squeeze(1)

        x = HMC(energy, 0.4, 6).sample(3 * normal(10_000, 1), 60, key=key(5))
        assert_means(x, 0.0)
        assert_means(x**2, 5.0)
        assert_means(x**4, 43.0)

    def test_banana(self):
        x = HMC(banana, 0.15, 12).sample(normal(10_000, 2), 60, key=key(6))
        assert_means(x, torch.zeros(2))
        assert_means(x**2, [1.0, 2.25])
        assert_means(x[:, 0] ** 2 * x[:, 1], 2.0)
        assert_means((x[:, 1] - x[:, 0] ** 2 + 1) ** 2, 0.25)

    def test_funnel_keeps_its_own_draws(self):
        """From exact draws (v, e^(v/2) z) every transition leaves v and z what they were."""
        v, z = normal(20_000, 1), normal(20_000, 3, seed=1)
        start = torch.cat([v, torch.exp(v / 2) * z], 1)
        x, info = HMC(funnel, 0.4, 6).sample(start, 25, key=key(7), return_info=True)
        assert 0.5 < info.acceptance_rate.mean() < 0.98
        assert_means(x[:, 0], 0.0)
        assert_means(x[:, 0] ** 2, 1.0)
        assert_means(x[:, 0] ** 4, 3.0)
        z = x[:, 1:] * torch.exp(-x[:, :1] / 2)
        assert_means(z**2, torch.ones(3))
        assert_means(x[:, 0, None] * z**2, torch.zeros(3))

    def test_gamma_whose_energy_is_nan_below_zero(self):
        """Gamma(3, 1): E = x − 2 log x, and log x is NaN for x < 0."""
        start = torch.ones(10_000, 1)
        sampler = HMC(lambda x: (x - 2 * x.log()).squeeze(1), 0.5, 4)
        x, info = sampler.sample(start, 50, key=key(8), return_info=True)
        assert (x > 0).all()
        assert info.is_divergent.any()
        assert_means(x, 3.0)
        assert_means(x**2, 12.0)
        assert_means(x.log(), 1.5 - 0.5772156649)  # digamma(3)

    def test_half_normal_whose_energy_is_infinite_below_zero(self):
        def energy(x):
            return torch.where(x >= 0, 0.5 * x**2, torch.inf).squeeze(1)

        sampler = HMC(energy, 0.3, 3)
        x, info = sampler.sample(torch.ones(10_000, 1), 60, key=key(9), return_info=True)
        assert (x >= 0).all()
        assert info.is_divergent.any()
        assert_means(x, math.sqrt(2 / math.pi))
        assert_means(x**2, 1.0)

    @pytest.mark.parametrize(("step_size", "num_leapfrog"), [(0.8, 1), (1.5, 2), (1.0, 5)])
    def test_acceptance_on_a_gaussian(self, step_size, num_leapfrog):
        """(4/π) arctan(1/s), s the largest singular value of the leapfrog map.

        ΔH is ((s² − 1) a² + (1/s² − 1) b²)/2 for independent standard normals a and b, since the
        map is symplectic, and E min(1, e^(−ΔH)) = 2 P(ΔH < 0) at equilibrium.
        """
        kick = double([1.0, 0.0], [-step_size / 2, 1.0])
        drift = double([1.0, step_size], [0.0, 1.0])
        step = torch.linalg.matrix_power(kick @ drift @ kick, num_leapfrog)
        expected = 4 / math.pi * math.atan(1 / torch.linalg.svdvals(step)[0].item())
        sampler = HMC(quadratic(), step_size, num_leapfrog)
        _, info = sampler.sample(normal(100_000, 1), 1, key=key(10), return_info=True)
        assert_means(info.acceptance_rate[0], expected)
        assert_means(info.is_accepted[0], expected)


class TestTransitions:
    def test_a_transition_costs_a_gradient_for_each_leapfrog_step(self):
        energy = Counted(quadratic())
        HMC(energy, 0.1, 7).sample(torch.zeros(3, 2), 5)
        assert energy.calls == 1 + 5 * 7

    def test_repeated_steps_are_a_sample(self):
        sampler, x = HMC(banana, 0.4, 3), normal(50, 2)
        states, infos = sampler.sample(x, 6, key=key(11), return_trajectory=True, return_info=True)
        state = sampler.init(x)
        for number, step_key in enumerate(split_key(key(11), 6)):
            before = state.position.clone(), state.energy.clone(), state.grad.clone()
            after, info = sampler.step(state, key=step_key)
            for one, other in zip(state, before, strict=True):
                assert torch.equal(one, other)
            assert torch.equal(after.position, states[number])
            for one, several in zip(info, infos, strict=True):
                assert torch.equal(one, several[number])
            state = after

    def test_what_is_carried_belongs_to_the_position(self):
        sampler, state = HMC(banana, 0.9, 3), HMC(banana, 0.9, 3).init(normal(300, 2))
        for step_key in split_key(key(12), 5):
            before, (state, info) = state, sampler.step(state, key=step_key)
            energy, grad = energy_and_grad(banana, state.position)
            torch.testing.assert_close(state.energy, energy)
            torch.testing.assert_close(state.grad, grad)
            assert torch.equal(info.energy, state.energy)
            moved = (state.position != before.position).any(1)
            assert torch.equal(moved, info.is_accepted)
            assert 0 < moved.sum() < 300

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 2)])
    def test_parts_of_a_batch_run_the_chains_of_the_whole(self, shape, device):
        def energy(x):
            return x.reshape(len(x), -1).pow(4).sum(1)

        sampler, x = HMC(energy, 0.35, 3), normal(11, *shape, device=device)
        size = math.prod(shape)
        whole, info = sampler.sample(x, 8, key=key(13, device), return_info=True)
        assert info.is_accepted.any()
        assert not info.is_accepted.all()
        parts = [
            sampler.sample(x[first:last], 8, key=key(13, device), first_element=first * size)
            for first, last in ((0, 2), (2, 7), (7, 11))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)

    def test_trajectory_and_thinning(self):
        sampler, x = HMC(quadratic(), 0.5, 2), normal(5, 2)
        options = {"key": key(14), "return_info": True}
        states, infos = sampler.sample(x, 6, return_trajectory=True, **options)
        thinned, thinned_infos = sampler.sample(x, 6, return_trajectory=True, thin=3, **options)
        assert states.shape == (6, 5, 2)
        assert torch.equal(thinned, states[2::3])
        for one, other in zip(infos, thinned_infos, strict=True):
            assert one.shape == (6, 5)
            assert torch.equal(one[2::3], other)
        last, _ = sampler.sample(x, 6, **options)
        assert torch.equal(last, states[-1])
        assert torch.equal(sampler.sample(x, 0), x)

    def test_both_backends_run_the_same_chains(self):
        sampler, x = HMC(banana, 0.2, 3), normal(50, 2, dtype=torch.float64)
        native = sampler.sample(x, 5, key=key(22))
        with backend("reference"):
            torch.testing.assert_close(sampler.sample(x, 5, key=key(22)), native)

    def test_the_start_is_left_alone(self):
        x = normal(5, 2)
        before = x.clone()
        HMC(quadratic(), 0.5, 2).sample(x, 3)
        assert torch.equal(x, before)

    def test_energies_that_share_memory_with_the_position(self):
        """E(x) = x₀, returned as a view of x, with a gradient whose rows share their memory."""

        sampler, x = HMC(lambda x: x[:, 0], 0.5, 3), normal(50, 2)
        other = HMC(lambda x: 1.0 * x[:, 0], 0.5, 3)
        assert torch.equal(sampler.sample(x, 5, key=key(15)), other.sample(x, 5, key=key(15)))
        slope = HMC(lambda x: x.sum(1), 0.5, 3)
        other = HMC(lambda x: (1.0 * x).sum(1), 0.5, 3)
        assert torch.equal(slope.sample(x, 5, key=key(15)), other.sample(x, 5, key=key(15)))

    def test_seeds(self):
        sampler, x = HMC(quadratic(), 0.5, 2), torch.zeros(7, 3)

        def seeded(seed):
            return sampler.sample(x, 4, generator=torch.Generator().manual_seed(seed))

        assert torch.equal(seeded(0), seeded(0))
        assert not torch.equal(seeded(0), seeded(1))
        assert not torch.equal(sampler.sample(x, 4), sampler.sample(x, 4))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_dtypes(self, dtype):
        """Half precision rounds the positions to 3 digits: within a percent of the moments."""
        start = normal(4000, 2).to(dtype)
        x, info = HMC(quadratic(), 0.5, 4).sample(start, 20, key=key(16), return_info=True)
        assert x.dtype == dtype
        assert info.energy.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        error = 4 * math.sqrt(2 / x.numel()) + (0.01 if dtype != torch.float64 else 0)
        assert abs(x.double().square().mean().item() - 1) < error

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_it_works_where_gradients_are_off(self, mode):
        sampler, x = HMC(banana, 0.2, 3), normal(5, 2)
        with mode():
            inside = sampler.sample(x, 5, key=key(17))
        torch.testing.assert_close(inside.clone(), sampler.sample(x, 5, key=key(17)))

    def test_the_energys_parameters_are_left_alone(self):
        precision = torch.tensor(2.0, requires_grad=True)
        x = HMC(lambda x: precision * x.square().sum(1), 0.2, 3).sample(normal(5, 2), 4)
        assert not x.requires_grad
        assert precision.grad is None
        assert precision.requires_grad

    def test_no_chains(self):
        x, info = HMC(quadratic(), 0.1, 3).sample(torch.zeros(0, 2), 3, return_info=True)
        assert x.shape == (0, 2)
        assert info.is_accepted.shape == (3, 0)


class TestNonFinite:
    @pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
    def test_proposals_in_a_hole_are_counted_and_never_stored(self, hole):
        """With one leapfrog step the proposal is known: x − ε²∇E/2 + εp."""

        def energy(x):
            return torch.where(x[:, 0] > 1, hole, 0.5 * x.square().sum(1))

        sampler, x = HMC(energy, 0.8, 1), normal(2000, 2).clamp(max=0.9)
        noise = philox_normal(x.shape, key(18))
        proposal = (1 - 0.8**2 / 2) * x + 0.8 * noise
        state, info = sampler.step(sampler.init(x), key=key(18))
        is_inside = proposal[:, 0] <= 1
        assert 100 < (~is_inside).sum() < 1000
        assert torch.equal(info.is_divergent, ~is_inside)
        assert not info.is_accepted[~is_inside].any()
        assert (info.acceptance_rate[~is_inside] == 0).all()
        assert torch.equal(state.position[~is_inside], x[~is_inside])
        assert state.position.isfinite().all()
        assert state.energy.isfinite().all()
        assert state.grad.isfinite().all()

    def test_a_proposal_with_a_finite_energy_and_no_gradient_is_rejected(self):
        """E = √(x + |x|) is 0 for all x < 0, where its derivative is 0·∞."""
        sampler = HMC(lambda x: (x + x.abs()).sqrt().squeeze(1), 0.8, 1)
        x, info = sampler.sample(torch.full((500, 1), 0.1), 10, key=key(19), return_info=True)
        assert info.is_divergent.any()
        assert (x > 0).all()

    def test_energy_errors_above_the_bound_are_divergent_but_not_more(self):
        """ΔH of one step from the origin is ε⁴p²/8·(…) ≥ 0: the flag splits at the bound."""
        sampler = HMC(quadratic(), 3.0, 1, max_energy_error=2.0)
        _, info = sampler.step(sampler.init(torch.zeros(2000, 1)), key=key(20))
        above = info.acceptance_rate < math.exp(-2)
        assert 0 < above.sum() < 2000
        assert torch.equal(info.is_divergent, above)

    def test_chains_outside_fly_in(self):
        """From where the energy is infinite, and its gradient NaN, into the half-line x > 0."""
        sampler = HMC(lambda x: torch.where(x > 0, x, torch.inf).squeeze(1), 0.5, 4)
        x = torch.full((10_000, 1), -1.0)
        assert (sampler.init(x).grad == 0).all()
        after = sampler.sample(x, 100, key=key(21))
        assert (after > 0).all()
        assert_means(after, 1.0)

    @pytest.mark.parametrize(
        ("energy", "message"),
        [
            (lambda x: (x.log() + 0 * x).sum(1), "2 of 3 chains start with an energy that is NaN"),
            (lambda x: -(x / 0).abs().sum(1), "3 of 3 chains start with an energy"),
            (lambda x: (x + x.abs()).sqrt().sum(1), "2 of 3 chains start with a gradient"),
        ],
    )
    def test_starts_that_cannot_move(self, energy, message):
        x = torch.tensor([[1.0], [-2.0], [-3.0]])
        with pytest.raises(ValueError, match=message):
            HMC(energy, 0.1, 2).init(x)

    def test_starts_that_are_not_finite(self):
        x = torch.tensor([[1.0], [math.inf], [3.0]])
        with pytest.raises(ValueError, match="1 of 3 chains start with an element"):
            HMC(lambda x: 0 * x.clamp(max=2).sum(1), 0.1, 2).sample(x, 3)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_steps": -1}, "HMC.sample: num_steps is -1"),
            ({"num_steps": 4, "thin": 3, "return_info": True}, "thin is 3 for 4 steps"),
            ({"num_steps": 4, "thin": 2}, "return_trajectory=True"),
            ({"num_steps": 4, "first_element": 7}, "7, which is no multiple of the 2 elements"),
            ({"num_steps": 4, "first_element": -2}, "first_element must not be negative"),
            ({"num_steps": 4, "key": torch.zeros(3)}, "key must be an int64 tensor"),
        ],
    )
    def test_of_sample(self, options, message):
        with pytest.raises(ValueError, match=message):
            HMC(quadratic(), 0.1, 2).sample(torch.zeros(3, 2), **options)

    def test_of_the_constructor(self):
        with pytest.raises(ValueError, match="num_leapfrog is 0"):
            HMC(quadratic(), 0.1, 0)
        with pytest.raises(TypeError, match="num_leapfrog must be an integer"):
            HMC(quadratic(), 0.1, 2.5)

    def test_of_energies(self):
        with pytest.raises(ValueError, match=r"shape \[\] for x of shape \[3, 2\]"):
            HMC(lambda x: x.sum(), 0.1, 2).init(torch.zeros(3, 2))
        with pytest.raises(ValueError, match="x is a scalar"):
            HMC(quadratic(), 0.1, 2).init(torch.zeros(()))


class KnownGaussian:
    """An energy that counts how often its own gradient was asked for."""

    def __init__(self, precision, scale=1.0):
        self.precision, self.scale, self.calls = precision, scale, 0

    def __call__(self, x):
        return 0.5 * (self.precision * x.square()).sum(1)

    def energy_and_grad(self, x):
        assert not torch.is_grad_enabled()
        self.calls += 1
        return self(x), self.scale * self.precision * x


class TestKnownGradients:
    def test_they_are_used_instead_of_autograd(self):
        energy = KnownGaussian(torch.tensor([1.0, 4.0]))
        x = HMC(energy, 0.3, 4).sample(normal(10_000, 2), 10, key=key(1))
        assert energy.calls == 1 + 10 * 4
        other = HMC(lambda x: energy(x), 0.3, 4).sample(normal(10_000, 2), 10, key=key(1))
        torch.testing.assert_close(x, other, rtol=1e-4, atol=1e-4)
        assert_means(x**2, [1.0, 0.25])

    def test_where_the_gradient_itself_is_differentiated_autograd_is_used(self):
        energy, x = KnownGaussian(torch.tensor(3.0)), normal(4, 2).requires_grad_()
        _, grad = energy_and_grad(energy, x, create_graph=True)
        assert energy.calls == 0
        assert torch.equal(torch.autograd.grad(grad.sum(), x)[0], torch.full((4, 2), 3.0))

    def test_gradients_of_another_shape_or_dtype_are_refused(self):
        for scale in (torch.ones(3, 1, 1), torch.ones((), dtype=torch.float64).expand(4, 2)):
            with pytest.raises(ValueError, match=r"energy_and_grad\(x\) has a gradient of"):
                energy_and_grad(KnownGaussian(1.0, scale), normal(4, 2))
