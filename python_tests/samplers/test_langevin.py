"""Langevin dynamics against its closed forms on Gaussians."""

import math
import warnings
from contextlib import nullcontext

import pytest
import torch
from testing.chain_testing import assert_variance, key, quadratic
from torch import nn

from gencore.nn import MLPEnergy
from gencore.ops import split_key
from gencore.samplers import Langevin, LangevinState, NonFiniteWarning


class Counted(nn.Module):
    """A quadratic energy that counts its calls and can be made to fail."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.calls, self.fail_at = 0, fail_at

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("no energy today")
        return 0.5 * self.precision * (x - self.shift).flatten(1).square().sum(1)


class TestLangevin:
    @pytest.mark.parametrize(("precision", "time_step"), [(1.0, 0.5), (2.0, 1.0), (0.5, 0.1)])
    def test_stationary_variance(self, precision, time_step):
        """1 / (λ(1 − ηλ/4)): the bias of unadjusted steps is part of the closed form."""
        sampler = Langevin.from_time_step(quadratic(precision), time_step)
        x = sampler.sample(torch.zeros(100_000, 1), int(16 / (time_step * precision)), key=key(1))
        assert_variance(x, 1 / (precision * (1 - time_step * precision / 4)))

    @pytest.mark.parametrize("num_steps", [1, 3, 10])
    def test_variance_after_a_few_steps(self, num_steps):
        """a^2K + η(1 − a^2K)/(1 − a²) from N(0, 1), with a = 1 − ηλ/2."""
        precision, time_step = 4.0, 0.1
        start = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
        x = Langevin.from_time_step(quadratic(precision), time_step).sample(
            start, num_steps, key=key(2)
        )
        a = 1 - time_step * precision / 2
        decay = a ** (2 * num_steps)
        assert_variance(x, decay + time_step * (1 - decay) / (1 - a**2))

    def test_stationary_covariance_of_a_correlated_gaussian(self):
        """[P(I − ηP/4)]⁻¹ for the precision matrix P."""
        precision, time_step, num = torch.tensor([[2.0, -0.9], [-0.9, 1.0]]), 0.3, 100_000
        sampler = Langevin.from_time_step(lambda x: 0.5 * ((x @ precision) * x).sum(1), time_step)
        x = sampler.sample(torch.zeros(num, 2), 150, key=key(3))
        expected = torch.linalg.inv(precision @ (torch.eye(2) - time_step * precision / 4))
        diagonal = expected.diag()
        standard_error = ((torch.outer(diagonal, diagonal) + expected**2) / num).sqrt()
        assert ((x.T @ x / num - expected).abs() < 5 * standard_error).all()

    def test_noise_is_fresh_in_every_step(self):
        """K steps without a force are a random walk: variance K·s², not K²·s² or s²."""
        sampler = Langevin(lambda x: 0 * x.sum(1), step_size=1.0, noise_scale=0.5)
        assert_variance(sampler.sample(torch.zeros(50_000, 2), 16, key=key(4)), 16 * 0.25)

    def test_without_noise_it_is_gradient_descent(self):
        """x_K = a^K x₀, whose energy falls in every step."""
        x = torch.randn(50, 2, 3, dtype=torch.float64)
        energy = quadratic(2.0)
        trajectory = Langevin.noise_free(energy, 0.1).sample(x, 20, return_trajectory=True)
        torch.testing.assert_close(trajectory[-1], 0.8**20 * x)
        energies = torch.stack([energy(state) for state in trajectory])
        assert (energies[1:] < energies[:-1]).all()

    def test_too_long_steps_diverge(self):
        """|a| > 1: here a = −1.5."""
        x = torch.ones(3, 1, dtype=torch.float64)
        result = Langevin.noise_free(quadratic(1.0), 2.5).sample(x, 30)
        torch.testing.assert_close(result, 1.5**30 * x)

    def test_the_papers_parametrisations_agree(self):
        x, energy = torch.zeros(10, 2), quadratic(1.0)
        samples = [
            sampler.sample(x, 5, key=key(5))
            for sampler in (
                Langevin(energy, 0.02),  # noise scale √(2·step size)
                Langevin.from_time_step(energy, 0.04),  # η/2 and √η
                Langevin.from_noise_std(energy, 0.2),  # δ²/2 and δ
            )
        ]
        torch.testing.assert_close(samples[0], samples[1])
        torch.testing.assert_close(samples[0], samples[2])

    def test_prior_precision_is_a_gaussian_factor(self):
        x = torch.randn(10, 2)
        within = Langevin(quadratic(3.0), 0.1).sample(x, 7, key=key(6))
        beside = Langevin(quadratic(1.0), 0.1, prior_precision=2.0).sample(x, 7, key=key(6))
        torch.testing.assert_close(within, beside)

    def test_clamps(self):
        x = torch.full((4, 1), 100.0)
        moved = Langevin.noise_free(quadratic(1.0), 0.5, grad_clamp=2.0).sample(x, 3)
        torch.testing.assert_close(moved, x - 3 * 0.5 * 2.0)
        bounded = Langevin(quadratic(1.0), 0.5, clamp=(-0.1, 0.3)).sample(x, 20, key=key(7))
        assert -0.1 <= bounded.min() <= bounded.max() <= 0.3

    def test_step_sizes_may_differ_between_chains(self):
        x = torch.ones(3, 2, dtype=torch.float64)
        sizes = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
        result = Langevin.noise_free(quadratic(1.0), sizes).sample(x, 2)
        torch.testing.assert_close(result, (1 - sizes[:, None]) ** 2 * x)

    def test_the_same_key_or_seed_gives_the_same_chains(self):
        sampler, x = Langevin(quadratic(1.0), 0.1), torch.zeros(7, 3)

        def seeded(seed):
            return sampler.sample(x, 4, generator=torch.Generator().manual_seed(seed))

        assert torch.equal(seeded(0), seeded(0))
        assert not torch.equal(seeded(0), seeded(1))
        assert torch.equal(sampler.sample(x, 4, key=key(8)), sampler.sample(x, 4, key=key(8)))
        assert not torch.equal(sampler.sample(x, 4), sampler.sample(x, 4))

    def test_parts_of_a_batch_run_the_chains_of_the_whole(self):
        sampler, x = Langevin(quadratic(1.0), 0.1), torch.randn(7, 3)
        whole = sampler.sample(x, 5, key=key(9))
        parts = [
            sampler.sample(x[first:last], 5, key=key(9), first_element=3 * first)
            for first, last in ((0, 2), (2, 7))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6)

    def test_trajectory(self):
        sampler, x = Langevin(quadratic(1.0), 0.1), torch.randn(5, 2)
        trajectory = sampler.sample(x, 6, key=key(10), return_trajectory=True)
        thinned = sampler.sample(x, 6, key=key(10), return_trajectory=True, thin=3)
        assert trajectory.shape == (6, 5, 2)
        assert torch.equal(thinned, trajectory[2::3])
        assert torch.equal(trajectory[-1], sampler.sample(x, 6, key=key(10)))
        assert sampler.sample(x, 0, return_trajectory=True).shape == (0, 5, 2)

    def test_repeated_steps_are_a_sample(self):
        sampler, x = Langevin(quadratic(2.0), 0.1), torch.randn(5, 2)
        state = LangevinState(x)
        for step_key in split_key(key(11), 4):
            before = state.position
            state, info = sampler.step(state, key=step_key)
            torch.testing.assert_close(info.energy, before.square().sum(1))
            torch.testing.assert_close(info.grad_norm, 2 * before.norm(dim=1))
            assert info.is_finite.all()
        torch.testing.assert_close(state.position, sampler.sample(x, 4, key=key(11)))

    def test_a_step_costs_one_gradient(self):
        energy = Counted()
        Langevin(energy, 0.1).sample(torch.zeros(3, 2), 9)
        assert energy.calls == 9

    @pytest.mark.parametrize("fail_at", [None, 3])
    def test_the_energys_parameters_are_left_alone(self, fail_at):
        energy, x = Counted(fail_at), torch.ones(3, 2)
        energy.precision.grad = torch.tensor(7.0)
        fails = pytest.raises(RuntimeError, match="no energy today")
        with fails if fail_at else nullcontext():
            assert not Langevin(energy, 0.1).sample(x, 5).requires_grad
        assert [p.requires_grad for p in energy.parameters()] == [True, False]
        assert [p.grad for p in energy.parameters()] == [torch.tensor(7.0), None]
        assert torch.is_grad_enabled()
        assert torch.equal(x, torch.ones(3, 2))
        assert not x.requires_grad

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_it_works_where_gradients_are_off(self, mode):
        sampler = Langevin(Counted(), 0.1)
        with mode():
            inside = sampler.sample(torch.ones(3, 2), 5, key=key(12))
        torch.testing.assert_close(inside.clone(), sampler.sample(torch.ones(3, 2), 5, key=key(12)))

    def test_differentiable_chain(self):
        """∂x_K/∂x₀ = a^K and ∂x_K/∂θ = −K·h·a^(K−1)·x₀ for steps h."""
        energy, num_steps, h = Counted().double(), 6, 0.1
        x = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
        end = Langevin.noise_free(energy, h).sample(x, num_steps, differentiable=True)
        by_start, by_precision = torch.autograd.grad(end.sum(), (x, energy.precision))
        assert by_start.item() == pytest.approx(0.9**6)
        assert by_precision.item() == pytest.approx(-num_steps * h * 0.9**5 * 1.5)

    def test_differentiable_and_fast_chains_agree(self):
        sampler, x = Langevin(Counted(), 0.1, grad_clamp=1.0), torch.randn(4, 2)
        slow = sampler.sample(x, 5, key=key(13), differentiable=True)
        torch.testing.assert_close(slow.detach(), sampler.sample(x, 5, key=key(13)))

    def test_no_chains(self):
        assert Langevin(quadratic(1.0), 0.1).sample(torch.zeros(0, 2), 3).shape == (0, 2)

    def test_nan_energies_are_reported_and_other_chains_go_on(self):
        x = torch.tensor([[1.0], [float("nan")], [3.0]])
        sampler = Langevin.noise_free(quadratic(1.0), 0.5)
        with pytest.warns(NonFiniteWarning, match="1 of 3 chains"):
            result = sampler.sample(x, 2)
        torch.testing.assert_close(result, x / 4, equal_nan=True)

    def test_a_nan_energy_with_a_finite_gradient_is_reported(self):
        hole = torch.tensor([0.0, float("nan")])
        sampler = Langevin.noise_free(lambda x: x.sum(1) + hole, 0.1)
        with pytest.warns(NonFiniteWarning, match="1 of 2 chains"):
            assert sampler.sample(torch.zeros(2, 3), 4).isfinite().all()
        _, info = sampler.step(LangevinState(torch.zeros(2, 3)))
        assert info.is_finite.tolist() == [True, False]

    def test_a_step_out_of_the_energys_domain_is_reported(self):
        """E = −√x: the step from 0.01 goes on, the one from 0 has an infinite gradient."""
        sampler = Langevin.noise_free(lambda x: -x.sqrt().sum(1), 0.1)
        _, info = sampler.step(LangevinState(torch.tensor([[0.01], [0.0]])))
        assert info.is_finite.tolist() == [True, False]

    def test_finite_chains_do_not_warn(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Langevin(quadratic(1.0), 0.1).sample(torch.zeros(3, 2), 3)

    @pytest.mark.parametrize(
        ("energy", "x", "num_steps", "options", "message"),
        [
            (quadratic(1.0), torch.zeros(()), 3, {}, "x is a scalar"),
            (quadratic(1.0), torch.zeros(2, 1), -1, {}, "num_steps is -1"),
            (quadratic(1.0), torch.zeros(2, 1), 5, {"thin": 2, "return_trajectory": True}, "thin"),
            (quadratic(1.0), torch.zeros(2, 1), 4, {"thin": 2}, "return_trajectory=True"),
            (lambda x: x.sum(), torch.zeros(2, 1), 1, {}, r"shape \[\] for x of shape \[2, 1\]"),
            (lambda x: x.detach().sum(1), torch.zeros(2, 1), 1, {}, "not differentiable in x"),
        ],
    )
    def test_bad_input_is_explained(self, energy, x, num_steps, options, message):
        with pytest.raises(ValueError, match=message):
            Langevin(energy, 0.1).sample(x, num_steps, **options)


class TestAnneal:
    def test_each_temperature_has_its_variance(self):
        """On λx²/2 the noise √(2aT) gives the variance T/(λ(1 − aλ/2)), whatever was before."""
        precision, step_size, temperatures = 2.0, 0.1, (9.0, 4.0)
        sampler = Langevin(quadratic(precision), step_size)
        x = sampler.anneal(torch.zeros(20000, 1), 60, temperatures, key=key(3))
        assert_variance(x, 4.0 / (precision * (1 - step_size * precision / 2)))

    def test_is_the_chains_of_its_stages(self):
        energy, x = quadratic(1.0), torch.ones(5, 2)
        ours = Langevin(energy, 0.1).anneal(x, 3, (4.0, 0.0), key=key(3))
        hot = Langevin(energy, 0.1, 2 * math.sqrt(0.2)).sample(x, 3, key=key(3))
        cold = Langevin.noise_free(energy, 0.1).sample(hot, 3)
        torch.testing.assert_close(ours, cold)

    def test_a_negative_temperature_is_named(self):
        with pytest.raises(ValueError, match=r"^Langevin.anneal: temperatures are \[1.0, -1.0\]"):
            Langevin(quadratic(1.0), 0.1).anneal(torch.ones(2, 2), 3, (1.0, -1.0))


class TestCudaGraph:
    def test_needs_a_cuda_device(self):
        with pytest.raises(ValueError, match=r"^Langevin.sample: cuda_graph=True needs .* got cpu"):
            Langevin(quadratic(1.0), 0.1).sample(torch.ones(2, 2), 3, cuda_graph=True)

    def test_runs_the_same_chains(self, device):
        if device.type != "cuda":
            pytest.skip("needs a CUDA device")
        layers = MLPEnergy(3, (16,)).to(device)
        sampler, x = Langevin(lambda x: layers(x), 0.1), torch.randn(9, 3, device=device)
        how = {"key": key(3).to(device), "return_trajectory": True, "thin": 2}
        torch.testing.assert_close(
            sampler.sample(x, 6, cuda_graph=True, **how), sampler.sample(x, 6, **how)
        )

    def test_says_what_cannot_be_captured(self, device):
        if device.type != "cuda":
            pytest.skip("needs a CUDA device")

        def waits(x):
            return x.square().sum(1) * x.max().item()

        with pytest.raises(RuntimeError, match="cannot be captured"):
            Langevin(waits, 0.1).sample(torch.ones(2, 2, device=device), 3, cuda_graph=True)
