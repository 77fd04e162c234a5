"""Warm-up: acceptance rates whose step size is known in closed form, and scales that are known."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal, quadratic
from testing.ranks import call_on_ranks
from torch import distributed as dist

from gencore.samplers import HMC, MALA, DualAveraging, Moments, warm_up
from gencore.samplers.step_size_adaptation import RobbinsMonro


def gaussian_acceptance(step_size):
    """(4/π) arctan(1/s) on N(0, 1), s the largest singular value of the leapfrog step."""
    kick = torch.tensor([[1.0, 0.0], [-step_size / 2, 1.0]], dtype=torch.float64)
    drift = torch.tensor([[1.0, step_size], [0.0, 1.0]], dtype=torch.float64)
    return 4 / math.pi * math.atan(1 / torch.linalg.svdvals(kick @ drift @ kick)[0].item())


class TestDualAveraging:
    @pytest.mark.parametrize("first_guess", [1e-3, 1.0, 100.0])
    def test_finds_the_root(self, first_guess):
        """Of e^(−ε) = δ, from any first guess.

        H = γ(μ − log ε)/√t is the mean of δ − α over all t, so α itself is off by half of it.
        """
        adaptation, num_steps = DualAveraging.start(torch.tensor(first_guess)), 3000
        for _ in range(num_steps):
            adaptation = adaptation.update(torch.exp(-adaptation.step_size), 0.8)
        found = adaptation.average_step_size.item()
        bound = 0.05 * abs(math.log(10 * first_guess / found)) / math.sqrt(num_steps)
        assert abs(math.exp(-found) - 0.8) < bound < 0.01

    def test_the_papers_recursion_by_hand(self):
        """Two steps of eq. (6) with γ = 0.05, t₀ = 10, κ = 0.75, μ = log 10ε₀."""
        adaptation = DualAveraging.start(torch.tensor(0.1, dtype=torch.float64))
        adaptation = adaptation.update(torch.tensor(0.5), 0.8)
        error = 0.3 / 11
        first = 0.0 - 1 / 0.05 * error
        assert adaptation.log_step.item() == pytest.approx(first)
        assert adaptation.log_average.item() == pytest.approx(first)
        adaptation = adaptation.update(torch.tensor(1.0), 0.8)
        error = (1 - 1 / 12) * error - 0.2 / 12
        second = 0.0 - math.sqrt(2) / 0.05 * error
        weight = 2**-0.75
        assert adaptation.log_step.item() == pytest.approx(second)
        average = weight * second + (1 - weight) * first
        assert adaptation.log_average.item() == pytest.approx(average)


class TestRobbinsMonro:
    @pytest.mark.parametrize("first_guess", [1e-3, 1.0, 100.0])
    def test_finds_the_root(self, first_guess):
        """Of e^(−ε) = δ, from any first guess, to the last digits: nothing keeps it swinging."""
        adaptation = RobbinsMonro.start(torch.tensor(first_guess).log())
        for _ in range(100):
            adaptation = adaptation.update(torch.exp(-adaptation.step_size), 0.8)
        for found in (adaptation.step_size, adaptation.average_step_size):
            assert math.exp(-found.item()) == pytest.approx(0.8, abs=1e-3)

    def test_the_recursion_by_hand(self):
        """Up by 3/2 · 0.1, down by half of 3/2 · 0.3 after the first turn, for one chain of two."""
        adaptation = RobbinsMonro.start(torch.zeros(2, dtype=torch.float64))
        adaptation = adaptation.update(torch.tensor([0.9, 0.9], dtype=torch.float64), 0.8)
        torch.testing.assert_close(adaptation.log_step, torch.full_like(adaptation.log_step, 0.15))
        adaptation = adaptation.update(torch.tensor([0.5, 1.0], dtype=torch.float64), 0.8)
        expected = torch.tensor([0.15 - 0.225, 0.15 + 0.3], dtype=torch.float64)
        torch.testing.assert_close(adaptation.log_step, expected)
        expected[0] = 0.15 - 0.225 * 2**-0.75
        torch.testing.assert_close(adaptation.log_average, expected)


class TestMoments:
    def test_merged_parts_are_the_whole(self):
        x = normal(50, 3, 2, dtype=torch.float64) * 3 + 1
        moments = Moments.of(x[:7])
        for part in (x[7:8], x[8:30], x[30:]):
            moments = moments.merge(Moments.of(part))
        assert moments.num_rows == 50
        torch.testing.assert_close(moments.mean, x.mean(0))
        torch.testing.assert_close(moments.variance, x.var(0))

    def test_a_large_mean_does_not_cancel_the_variance(self):
        x = normal(10_000, 2) + 1e4
        moments = Moments.of(x[:5000]).merge(Moments.of(x[5000:]))
        torch.testing.assert_close(moments.variance, x.double().var(0), rtol=1e-4, atol=0.0)


class TestStepSize:
    @pytest.mark.parametrize("first_guess", [1e-3, 0.5, 50.0])
    @pytest.mark.parametrize("target", [0.6, 0.9])
    def test_hmc_has_the_rate_asked_for(self, first_guess, target):
        sampler, _, _ = warm_up(
            HMC(quadratic(), first_guess, 1), normal(2000, 1), 300,
            target_acceptance=target, adapt_mass=False, key=key(1),
        )  # fmt: skip
        assert isinstance(sampler.step_size, float)
        assert sampler.inverse_mass == 1.0
        assert gaussian_acceptance(sampler.step_size) == pytest.approx(target, abs=0.01)

    @pytest.mark.parametrize("num_steps", [300, pytest.param(1000, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("dim", [1, 2, 10, 100])
    def test_rates_that_are_periodic_in_the_step_size(self, dim, num_steps):
        """Of six leapfrog steps on N(0, I): 1 at ε = 1, next to 0 at ε = 2, and between 1/2 and 1,
        up and down, from 1 to 2 in one dimension.

        The last tenth of the transitions of 64 chains, whose rates deviate by less than 0.3, tells
        it, and 8000 fresh states what it is.
        """
        sampler, _, _ = warm_up(
            HMC(quadratic(), 0.1, 6), 2 * normal(64, dim), num_steps, key=key(15)
        )
        _, after = sampler.step(sampler.init(normal(8000, dim, seed=16)), key=key(17))
        error = 0.3 * math.sqrt(1 / (6.4 * num_steps) + 1 / 8000)
        assert after.acceptance_rate.mean().item() == pytest.approx(0.8, abs=4 * error)

    def test_malas_own_target(self):
        """0.574, in the units of MALA: a = ε²/2."""
        sampler, _, _ = warm_up(
            MALA(quadratic(), 0.01), normal(2000, 1), 400, adapt_mass=False, key=key(2)
        )
        assert isinstance(sampler, MALA)
        step_size = math.sqrt(2 * sampler.step_size)
        assert gaussian_acceptance(step_size) == pytest.approx(0.574, abs=0.01)

    def test_each_chain_its_own(self):
        """Chains of scales from 0.1 to 10 get step sizes in proportion, the others' noise apart."""
        scale = torch.logspace(-1, 1, 400)[:, None]
        sampler, x, info = warm_up(
            HMC(lambda x: 0.5 * (x / scale).square().sum(1), 0.1, 1), scale * normal(400, 4), 600,
            adapt_mass=False, per_chain=True, key=key(3),
        )  # fmt: skip
        assert sampler.step_size.shape == (400,)
        assert info.step_size.shape == info.acceptance_rate.shape == (600, 400)
        relative = (sampler.step_size / scale[:, 0]).log()
        slope = (relative * scale[:, 0].log()).mean() / scale.log().square().mean()
        assert abs(slope) < 0.02
        assert relative.std() < 0.15
        assert info.acceptance_rate[200:].mean() == pytest.approx(0.8, abs=0.01)
        _, after = sampler.sample(x, 100, key=key(4), return_info=True)
        assert after.acceptance_rate.mean() == pytest.approx(0.8, abs=0.01)

    @pytest.mark.parametrize("adapt_mass", [True, False])
    def test_a_chain_that_starts_where_the_energy_is_steep_comes_along(self, adapt_mass):
        """E = ‖x‖⁴/4: at 40 the step size has to be some hundredth of the other 199 chains'."""
        start = normal(200, 2)
        start[17] = 40.0
        sampler, x, _ = warm_up(
            HMC(lambda x: x.square().sum(1).square() / 4, 0.5, 3), start, 300,
            adapt_mass=adapt_mass, key=key(13),
        )  # fmt: skip
        assert x.abs().max() < 5
        _, info = sampler.sample(x, 50, key=key(14), return_info=True)
        assert info.acceptance_rate.mean(0).min() > 0.4

    def test_info_is_what_happened(self):
        _, _, info = warm_up(HMC(quadratic(), 30.0, 2), normal(500, 3), 100, key=key(5))
        assert info.step_size[0].item() == pytest.approx(30.0)
        assert info.acceptance_rate[0] == 0
        assert info.divergence_rate[0] > 0.9
        assert info.divergence_rate[-1] == 0
        assert info.acceptance_rate[-20:].mean() == pytest.approx(0.8, abs=0.1)


class TestMass:
    @pytest.mark.parametrize("kind", [HMC, MALA])
    def test_it_is_the_variance(self, kind):
        """Of scales over four decades, from one common start; with 256 chains, to some percent."""
        scale = torch.tensor([[0.01, 1.0], [30.0, 100.0]])

        def energy(x):
            return 0.5 * ((x - scale) / scale).square().sum((1, 2))

        sampler, num_steps = (
            (HMC(energy, 1e-3, 8), 600) if kind is HMC else (MALA(energy, 1e-6), 2000)
        )
        sampler, x, _ = warm_up(sampler, torch.zeros(256, 2, 2), num_steps, key=key(6))
        assert sampler.inverse_mass.shape == (1, 2, 2)
        ratio = sampler.inverse_mass[0].sqrt() / scale
        assert (ratio - 1).abs().max() < 0.1
        x = sampler.sample(x.repeat(20, 1, 1), 40, key=key(7))
        assert_means(x.view(20, 256, 2, 2).mean(0) / scale, torch.ones(2, 2))

    def test_few_states_are_shrunk_towards_a_thousandth(self):
        """(n s² + 5·10⁻³)/(n + 5): a single chain that cannot move has s = 0 in its 15 states."""
        sampler, _, _ = warm_up(
            HMC(lambda x: torch.where(x == 0, 0 * x, torch.nan).sum(1), 0.1, 1),
            torch.zeros(1, 2), 20, key=key(8),
        )  # fmt: skip
        expected = torch.full((1, 2), 5e-3 / (15 + 5))
        torch.testing.assert_close(sampler.inverse_mass, expected)

    def test_short_warm_ups_leave_the_mass(self):
        sampler, _, _ = warm_up(HMC(quadratic(), 0.1, 1), normal(5, 2), 19, key=key(9))
        assert sampler.inverse_mass == 1.0


class TestInterface:
    def test_no_steps(self):
        x, given = normal(5, 2), HMC(quadratic(), 0.1, 3, max_energy_error=7.0)
        sampler, after, info = warm_up(given, x, 0)
        assert sampler.step_size == pytest.approx(0.1)
        assert (sampler.num_leapfrog, sampler.max_energy_error) == (3, 7.0)
        assert torch.equal(after, x)
        assert info.step_size.shape == (0,)

    def test_the_same_key_gives_the_same_warm_up(self):
        given, x = HMC(quadratic(), 0.1, 3), normal(20, 2)
        first, second, other = (warm_up(given, x, 60, key=key(seed)) for seed in (10, 10, 11))
        assert first[0].step_size == second[0].step_size != other[0].step_size
        assert torch.equal(first[1], second[1])
        assert torch.equal(x, normal(20, 2))

    @pytest.mark.parametrize(
        ("sampler", "options", "message"),
        [
            (HMC(quadratic(), 0.0, 1), {}, "step_size is 0.0; expected it positive"),
            (HMC(quadratic(), torch.ones(3), 1), {}, "has 3 step sizes.*per_chain=True"),
            (HMC(quadratic(), 0.1, 1), {"target_acceptance": 1.0}, r"1.0; expected a number in"),
            (HMC(quadratic(), 0.1, 1), {"num_steps": -1}, "num_steps is -1"),
            (HMC(quadratic(), 0.1, 1), {"x": torch.zeros(0, 2)}, "at least one"),
        ],
    )
    def test_bad_input_is_explained(self, sampler, options, message):
        with pytest.raises(ValueError, match=message):
            warm_up(sampler, **{"x": torch.zeros(3, 2), "num_steps": 5, **options})


def correlated(x):
    return 0.5 * (x[:, 0] ** 2 + (x[:, 1] - 3 * x[:, 0]) ** 2)


def warm_up_a_part(folder):
    """The chains of one of two processes."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    part = slice(0, 20) if rank == 0 else slice(20, 50)
    sampler, x, _ = warm_up(
        HMC(correlated, 0.1, 3), normal(50, 2, dtype=torch.float64)[part], 60, key=key(12),
        first_element=2 * part.start, process_group=dist.group.WORLD,
    )  # fmt: skip
    torch.save((sampler.step_size, sampler.inverse_mass, x), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_warm_up_as_one(tmp_path):
    x = normal(50, 2, dtype=torch.float64)
    whole, x, _ = warm_up(HMC(correlated, 0.1, 3), x, 60, key=key(12))
    call_on_ranks(warm_up_a_part, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for step_size, inverse_mass, _ in parts:
        assert step_size == pytest.approx(whole.step_size, rel=1e-6)
        torch.testing.assert_close(inverse_mass, whole.inverse_mass, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(torch.cat([part[2] for part in parts]), x, rtol=1e-5, atol=1e-5)
