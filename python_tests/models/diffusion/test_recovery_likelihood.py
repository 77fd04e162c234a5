"""Long-run chains and likelihoods of diffusion recovery energies that are known exactly."""

import math

import pytest
import torch
from torch import Tensor, nn

from gencore.metrics import SquareGrid
from gencore.models import (
    DiffusionRecoveryEBM,
    LongRunChains,
    NoiseSchedule,
    RecoveryLikelihood,
)

KEY = torch.tensor([7, 0])


class Exact(nn.Module):
    """The energies of the levels of a diffusion of data from a mixture of two Gaussians, N(±m, s²)
    in the first coordinate, and N(0, s²) in the others; less log-densities by offsets 3 + t/10.

    Of y = a_t x_t, and in a last level that is marginal of x_{T-1}.
    """

    def __init__(
        self, schedule: NoiseSchedule, std: float, mean: float, is_last_marginal: bool
    ) -> None:
        super().__init__()
        self.std, self.mean = std, mean
        self.spread = schedule.mean_scales
        self.scale = (1 - schedule.variances).sqrt()
        if is_last_marginal:
            self.scale[-1] = 1

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x_t, without offset."""
        scale = self.spread[t].to(x.dtype)
        variance = (scale * self.std) ** 2 + 1 - scale**2
        shift = scale * self.mean
        rest = x[:, 1:].square().sum(1)
        squares = torch.stack([(x[:, 0] - sign * shift).square() + rest for sign in (-1, 1)])
        constant = 0.5 * x.shape[1] * (2 * math.pi * variance).log()
        return torch.logsumexp(-0.5 * squares / variance, 0) - math.log(2) - constant

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        scale = self.scale[t].to(y.dtype)
        return -self.log_prob(y / scale[:, None], t) + 3 + 0.1 * t


# In steps to 1 - ā² = 1 - e⁻⁹, so that x_T may start from N(0, 1).
def make(
    dim: int, num_levels: int, *, std: float = 0.55, mean: float = 0.0, marginal: bool = False
) -> DiffusionRecoveryEBM:
    # Without its last step, that of a marginal last level, the diffusion still ends in noise.
    num_steps = num_levels - 1 if marginal else num_levels
    variances = [-math.expm1(-9 / num_steps)] * num_steps + [0.5] * marginal
    schedule = NoiseSchedule(variances)
    energy = Exact(schedule, std, mean, marginal)
    return DiffusionRecoveryEBM(energy, (dim,), schedule, is_last_marginal=marginal)


def exact_log_z(model: DiffusionRecoveryEBM) -> float:
    """∫ exp(log p(y/a) - 3) dy = aᴰ e⁻³."""
    return model.shape[0] * math.log(model.level_scale(0)) - 3


def exact_states(model: DiffusionRecoveryEBM, num: int) -> Tensor:
    """x_T, …, x_0 of the diffusion itself, those of each level of data of their own."""
    generator, energy = torch.Generator().manual_seed(1), model.energy
    assert isinstance(energy, Exact)

    def normal() -> Tensor:
        return torch.randn(num, *model.shape, generator=generator)

    states = [normal()]
    for t in reversed(range(model.schedule.num_steps)):
        scale = model.schedule.mean_scales[t].item()
        x = energy.std * normal()
        x[:, 0] += energy.mean * (2 * (torch.rand(num, generator=generator) < 0.5) - 1)
        states.append(scale * x + (1 - scale**2) ** 0.5 * normal())
    return torch.stack(states)


class TestLogZ:
    @pytest.mark.parametrize("marginal", [False, True])
    def test_32_dimensions_within_a_twentieth_of_a_nat(self, marginal: bool) -> None:
        model = make(32, 200, marginal=marginal)
        likelihood = RecoveryLikelihood.of(model, exact_states(model, 2000))
        error = likelihood.log_z - exact_log_z(model)
        assert abs(error) < 0.05
        assert abs(error) < 4 * likelihood.standard_error < 0.1

    def test_what_ratios_there_are(self) -> None:
        """Level by level: all p_t are normalised and all energies log-densities but for offsets, so
        that each ratio is that of the offsets, and the one at the top that to N(0, I)."""
        model = make(3, 60)
        likelihood = RecoveryLikelihood.of(model, exact_states(model, 4000))
        found = torch.logsumexp(likelihood.log_weights, 1) - math.log(4000)
        expected = torch.full((60,), 0.1, dtype=torch.float64)
        expected[-1] = -3 - 0.1 * 59 - 1.5 * math.log(2 * math.pi)
        assert ((found - expected).abs() < 5 * likelihood.log_z_errors + 1e-4).all()

    def test_the_density_has_the_jacobian_of_every_dimension(self) -> None:
        """log p(x₀) is known; without D log a it would be off by 32 times 0.0225."""
        model = make(32, 200)
        likelihood = RecoveryLikelihood.of(model, exact_states(model, 2000))
        x = 0.55 * torch.randn(50, 32)
        exact = torch.distributions.Normal(0, 0.55).log_prob(x.double()).sum(1)
        found = likelihood.density.log_prob(x).double()
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=0.05)
        assert 32 * math.log(model.level_scale(0)) < -0.7
        bits = likelihood.curve(x, [2000], bins=1).bits[0]
        assert bits == pytest.approx(-exact.mean().item() / 32 / math.log(2), abs=0.05 / 22)

    @pytest.mark.slow
    @pytest.mark.parametrize("marginal", [False, True])
    def test_the_density_of_the_plane_integrates_to_one(self, marginal: bool) -> None:
        """With the states of chains, which find two modes."""
        model = make(2, 40, std=0.4, mean=0.9, marginal=marginal)
        chains = LongRunChains(model, 0.9 * model.schedule.variances.sqrt(), num_steps=9)
        likelihood = RecoveryLikelihood.of(model, chains.sample(3000, key=KEY).states)
        grid = SquareGrid(4.0, 80)
        with torch.no_grad():
            log_mass = grid.log_integral(likelihood.density.log_prob(grid.points()))
        assert abs(log_mass) < 4 * likelihood.standard_error < 0.2

    def test_few_chains_flatter_the_model(self) -> None:
        """By (1/n) Var w/2 a level, of w/E w, and no more."""
        model = make(8, 12)
        likelihood = RecoveryLikelihood.of(model, exact_states(model, 8000))
        sizes = [10, 100, 1000, 8000]
        x = 0.55 * torch.randn(100, 8)
        curve = likelihood.curve(x, sizes)
        assert curve.num_samples == sizes
        assert curve.log_z == sorted(curve.log_z)
        assert curve.bits == sorted(curve.bits)
        variance = likelihood.log_z_errors.square().sum().item() * 8000
        lost = curve.log_z[3] - curve.log_z[2]
        assert lost == pytest.approx(variance / 2 / 1000, rel=0.5)
        gained = (curve.bits[3] - curve.bits[0]) * 8 * math.log(2)
        assert gained == pytest.approx(curve.log_z[3] - curve.log_z[0], rel=1e-3)


class TestAnnealed:
    @pytest.mark.parametrize("marginal", [False, True])
    def test_bridges_take_the_place_of_levels(self, marginal: bool) -> None:
        model = make(8, 4, marginal=marginal)
        errors, spreads = [], []
        for num_bridges in (1, 12):
            likelihood = RecoveryLikelihood.annealed(
                model, 1500, step_size=0.6, num_bridges=num_bridges, key=KEY
            )
            error = likelihood.log_z - exact_log_z(model)
            assert abs(error) < 5 * likelihood.standard_error
            errors.append(abs(error))
            spreads.append(likelihood.log_weights.std().item())
        assert errors[1] < 0.1
        assert spreads[1] < 0.5 * spreads[0]

    def test_energies_that_do_not_fit_each_other(self) -> None:
        """Level 0 of another law than the chains': N(0, 1) after levels of N(0, 0.55²)."""

        class Misfit(Exact):
            def forward(self, y: Tensor, t: Tensor) -> Tensor:
                x = y / self.scale[t].to(y.dtype)[:, None]
                other = 0.5 * x.square().sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi) + 3
                return torch.where(t == 0, other, super().forward(y, t))

        schedule = make(4, 10).schedule
        model = DiffusionRecoveryEBM(Misfit(schedule, 0.55, 0.0, False), (4,), schedule)
        likelihood = RecoveryLikelihood.annealed(model, 3000, step_size=0.8, num_bridges=8, key=KEY)
        assert abs(likelihood.log_z - exact_log_z(model)) < 4 * likelihood.standard_error < 0.15

    def test_parts_are_those_of_the_whole(self) -> None:
        model = make(3, 4)
        whole = RecoveryLikelihood.annealed(model, 5, step_size=0.5, key=KEY).log_weights
        part = RecoveryLikelihood.annealed(model, 2, step_size=0.5, key=KEY, first=3).log_weights
        assert torch.equal(whole[:, 3:], part)


class TestLongRun:
    @pytest.mark.parametrize("marginal", [False, True])
    def test_every_level_accepts_as_it_should_and_has_its_exact_law(self, marginal: bool) -> None:
        model = make(16, 8, std=0.6, marginal=marginal)
        chains = LongRunChains.adapted(model, 300, num_steps=25, key=KEY)
        run = chains.sample(1500, key=KEY)
        assert run.acceptance_rate.shape == (8,)
        assert ((run.acceptance_rate > 0.6) & (run.acceptance_rate < 0.9)).all()
        scale = model.schedule.mean_scales.flip(0)
        variance = (0.6 * scale) ** 2 + 1 - scale**2
        variance[0] = 1
        found = run.states.double().var((1, 2))
        error = 5 * math.sqrt(2 / run.samples.numel()) + math.exp(-9)
        torch.testing.assert_close(found, variance, rtol=error, atol=0)
        assert run.states.mean((1, 2)).abs().max() < 5 / math.sqrt(run.samples.numel())

    def test_the_normal_approximation_alone_has_another(self) -> None:
        """Its error is of fourth order in the noise: 1.06 times too wide at these levels."""
        model = make(16, 10, std=0.6)
        chains = LongRunChains(model, torch.ones(10), num_steps=1)
        run = chains.sample(2000, key=KEY)
        assert run.acceptance_rate.isnan().all()
        variance = run.samples.double().var().item()
        # One linear step a level: y = (1 - σ²/(a² v)) x + σε of variances v, in the closed form.
        expected = 1.0
        for t in reversed(range(10)):
            noise = model.schedule.variances[t].item()
            square = model.schedule.mean_scales[t].item() ** 2
            level = (1 - noise) * (0.36 * square + 1 - square)
            expected = ((1 - noise / level) ** 2 * expected + noise) / (1 - noise)
        assert variance == pytest.approx(expected, rel=5 * math.sqrt(2 / run.samples.numel()))
        assert abs(expected / 0.36 - 1) > 0.3

    def test_parts_are_those_of_the_whole(self) -> None:
        model = make(3, 4, marginal=True)
        chains = LongRunChains(model, torch.full((4,), 0.3), num_steps=3)
        whole = chains.sample(5, key=KEY).states
        assert torch.equal(whole[:, 3:], chains.sample(2, key=KEY, first=3).states)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: LongRunChains(m, torch.ones(3)), "one positive number for each of 4 levels"),
        (lambda m: LongRunChains(m, torch.zeros(4)), "one positive number"),
        (lambda m: LongRunChains(m, torch.ones(4), num_steps=0), "num_steps is 0"),
        (lambda m: LongRunChains.adapted(m, 0), "num is 0"),
        (lambda m: LongRunChains.adapted(m, 5, warm_up_steps=3), "warm_up_steps is 3"),
        (lambda m: RecoveryLikelihood.of(m, torch.zeros(4, 2, 3)), "states have shape"),
        (lambda m: RecoveryLikelihood.of(m, torch.zeros(5, 0, 3)), "no chains"),
        (
            lambda m: RecoveryLikelihood.of(m, torch.zeros(5, 2, 3)).curve(torch.zeros(1, 3), [3]),
            "num_samples has 3; expected at most the 2 chains",
        ),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(make(3, 4))
