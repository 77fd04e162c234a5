"""Diffusion recovery likelihood on Gaussians, all of whose levels' energies are known."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal
from torch import nn

from gencore.models import DiffusionNoise, DiffusionRecoveryEBM, NoiseSchedule, slerp
from gencore.nn import TimeMLPEnergy

VARIANCE = 2.3  # of the data
SCHEDULE = NoiseSchedule([0.15, 0.35, 0.6, 0.9])


class Gaussians(nn.Module):
    """E(y, t) = ½ yᵀ P_t y, for y with t as a parameter: P is [T, D, D]."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.as_tensor(precision, dtype=torch.float64))

    def forward(self, y, t):
        product = (self.precision[t] * y[:, None]).sum(2)
        return 0.5 * (product * y).sum(1)


def level_variances(schedule=SCHEDULE, variance=VARIANCE):
    """Of x_0, …, x_T."""
    squares = schedule.mean_scales**2
    return (squares * variance + 1 - squares).tolist()


def true_energy(schedule=SCHEDULE, *, is_last_marginal=False):
    """Of y_t = a_t x_t in one dimension, for data N(0, VARIANCE)."""
    scales = 1 - schedule.variances
    if is_last_marginal:
        scales[-1] = 1
    variances = torch.tensor(level_variances(schedule)[:-1], dtype=torch.float64)
    return Gaussians((1 / (scales * variances)).reshape(-1, 1, 1))


def chain_variance(start_variance, num_steps, step, precision, noise_variance):
    """Of y after K steps from y = x̃ of that variance: y = c·x̃ + noise of variance q."""
    rate = step**2 / 2 * (precision + 1 / noise_variance)
    pull = step**2 / 2 / noise_variance
    c, q = 1.0, 0.0
    for _ in range(num_steps):
        c, q = (1 - rate) * c + pull, (1 - rate) ** 2 * q + step**2
    return c**2 * start_variance + q


class TestSamples:
    @pytest.mark.parametrize(
        ("num_steps", "step_factor", "is_last_marginal", "error"),
        [(30, 0.4, False, 0.3), (400, 0.15, False, 0.03), (60, 0.3, True, 0.05)],
    )
    def test_the_way_down_is_a_recursion_of_variances(
        self, num_steps, step_factor, is_last_marginal, error
    ):
        """Each level's K steps are linear: x_0 is Gaussian of known variance, about the data's."""
        energy = true_energy(is_last_marginal=is_last_marginal)
        ebm = DiffusionRecoveryEBM(
            energy, (1,), SCHEDULE, num_steps=num_steps, step_factor=step_factor,
            is_last_marginal=is_last_marginal,
        )  # fmt: skip
        expected = [1.0]
        for t in reversed(range(4)):
            is_marginal = is_last_marginal and t == 3
            variance = chain_variance(
                expected[-1],
                num_steps,
                step_factor * math.sqrt(SCHEDULE.variances[t].item()),
                energy.precision[t].item(),
                math.inf if is_marginal else SCHEDULE.variances[t].item(),
            )
            expected.append(variance / (1 if is_marginal else 1 - SCHEDULE.variances[t].item()))
        assert expected[-1] == pytest.approx(VARIANCE, rel=error)
        x = ebm.sample(20_000, key=key(1), return_trajectory=True)
        assert_means((x**2).squeeze(2).T, expected)

    def test_the_normal_approximation_of_many_small_steps(self):
        """(2.18) with K = 0, by hand, and near the data's variance with 200 levels."""
        schedule = NoiseSchedule.linear(200, first=5e-4, last=0.1)
        ebm = DiffusionRecoveryEBM.preset("T1k", true_energy(schedule), (1,), schedule=schedule)
        noise = ebm.draw_noise(20_000, key=key(2))
        x = noise.start
        for t in reversed(range(200)):
            variance = schedule.variances[t].item()
            y = x - variance * ebm.energy.precision[t].item() * x
            x = (y + math.sqrt(variance) * noise.steps[t, 0]) / math.sqrt(1 - variance)
        found = ebm.sample(20_000, noise=noise)
        torch.testing.assert_close(found, x.detach())
        assert found.square().mean().item() == pytest.approx(VARIANCE, rel=0.05)

    def test_one_marginal_level_is_a_short_run_from_noise(self):
        """T = 1 without a quadratic term: x' = x − (δ²/2)∇E + δε from N(0, I)."""
        schedule = NoiseSchedule([0.64])
        ebm = DiffusionRecoveryEBM(
            Gaussians([[[0.7]]]), (1,), schedule, num_steps=3, step_factor=0.5,
            is_last_marginal=True,
        )  # fmt: skip
        noise = ebm.draw_noise(5, key=key(3))
        x = noise.start
        for step in range(3):
            x = x - 0.08 * 0.7 * x + 0.4 * noise.steps[0, step]
        torch.testing.assert_close(ebm.sample(5, noise=noise), x)

    def test_the_steps_of_a_level_by_hand(self):
        """(2.23), with x_{t+1} as start and centre, and x_t = y/a_t."""
        schedule = NoiseSchedule([0.36])
        options = {"num_steps": 5, "step_factor": 0.5}
        ebm = DiffusionRecoveryEBM(Gaussians([[[0.7]]]), (1,), schedule, **options)
        noise = ebm.draw_noise(4, key=key(7))
        y = noise.start
        for step in noise.steps[0]:
            y = y - 0.045 * (0.7 * y + (y - noise.start) / 0.36) + 0.3 * step
        torch.testing.assert_close(ebm.sample(4, noise=noise), y / 0.8)

    @pytest.mark.parametrize(
        "options", [{}, {"num_steps": 0}, {"is_last_marginal": True, "noise_factor": 0.9}]
    )
    def test_they_are_a_function_of_their_noise_and_of_their_place(self, options):
        torch.manual_seed(0)
        options = {"num_steps": 4, **options}
        ebm = DiffusionRecoveryEBM(TimeMLPEnergy(3), (3,), SCHEDULE, **options)
        x = ebm.sample(6, key=key(4), return_trajectory=True)
        noise = ebm.draw_noise(6, key=key(4))
        assert torch.equal(ebm.sample(6, noise=noise, return_trajectory=True), x)
        assert torch.equal(x[0], noise.start)
        torch.testing.assert_close(ebm.sample(4, key=key(4), first=2), x[-1, 2:])
        part = ebm.draw_noise(4, key=key(4), first=2)
        assert torch.equal(part.steps, noise.steps[:, :, 2:])

    def test_a_network_in_training_is_one_energy_all_the_way(self):
        torch.manual_seed(0)
        energy = TimeMLPEnergy(2, (32,), spectral_norm=True)
        ebm = DiffusionRecoveryEBM(energy, (2,), SCHEDULE, num_steps=3)
        before = {name: value.clone() for name, value in energy.state_dict().items()}
        ebm.sample(4, key=key(5))
        assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())


class TestObjective:
    @pytest.mark.parametrize("is_output_per_step", [False, True])
    def test_its_gradient_is_the_difference_of_the_chains_second_moments(self, is_output_per_step):
        """∂/∂P_t = w_t/T · ½(E y² − E y⁻²), at each level with its own σ, δ, scale and weight."""
        precision = torch.tensor([0.3, 0.8, 0.5, 1.1], dtype=torch.float64)
        factors, weights, num_steps = [1.0, 1.3, 0.8, 0.5], [1.0, 0.7, 0.5, 2.0], 6
        ebm = DiffusionRecoveryEBM(
            Gaussians(precision.reshape(-1, 1, 1)), (1,), SCHEDULE, num_steps=num_steps,
            step_factor=0.4, is_last_marginal=True, level_factors=factors, level_weights=weights,
            is_output_per_step=is_output_per_step,
        )  # fmt: skip
        expected = []
        variances = level_variances()
        for t in range(4):
            noise_variance = SCHEDULE.variances[t].item()
            step = 0.4 * factors[t] * math.sqrt(noise_variance)
            scale = 1.0 if t == 3 else 1 - noise_variance
            samples = chain_variance(
                1.0 if t == 3 else variances[t + 1],
                num_steps,
                step,
                precision[t].item() / (step**2 if is_output_per_step else 1),
                math.inf if t == 3 else noise_variance,
            )
            expected.append(weights[t] / 4 * 0.5 * (scale * variances[t] - samples))
        gradients = []
        for batch in range(60):
            x = math.sqrt(VARIANCE) * normal(2000, 1, seed=batch, dtype=torch.float64)
            loss = ebm(x, key=key(100 + batch)).loss
            gradients.append(torch.autograd.grad(loss, ebm.energy.precision)[0].flatten())
        assert_means(torch.stack(gradients), expected)

    def test_at_the_truth_no_level_has_a_gradient(self):
        """With steps small enough, K large enough, and each E(·, t) of the true density of y_t."""
        ebm = DiffusionRecoveryEBM(true_energy(), (1,), SCHEDULE, num_steps=100, step_factor=0.2)
        gradients = []
        for batch in range(20):
            x = math.sqrt(VARIANCE) * normal(1000, 1, seed=batch, dtype=torch.float64)
            loss = ebm(x, key=key(batch)).loss
            gradients.append(torch.autograd.grad(loss, ebm.energy.precision)[0].flatten())
        assert_means(torch.stack(gradients), torch.zeros(4))

    def test_rows_draw_by_their_place_and_levels_are_uniform(self):
        seen = []

        class Recorder(Gaussians):
            def forward(self, y, t):
                seen.append(t)
                return super().forward(y, t)

        energy = Recorder(true_energy().precision.detach())
        ebm = DiffusionRecoveryEBM(energy, (1,), SCHEDULE, num_steps=2)
        x = normal(8000, 1, dtype=torch.float64)
        whole = ebm(x, key=key(6))
        levels = seen[0]
        assert all(torch.equal(t, levels) for t in seen)
        second = ebm(x[3000:], key=key(6), first=3000)
        assert torch.equal(seen[-1], levels[3000:])
        torch.testing.assert_close(second.samples, whole.samples[3000:])
        counts = torch.bincount(levels, minlength=4)
        assert (counts - 2000).abs().max() < 4 * math.sqrt(8000 * 3 / 16)

    def test_the_levels_energies_are_what_the_chains_follow(self):
        ebm = DiffusionRecoveryEBM(
            true_energy(), (1,), SCHEDULE, is_output_per_step=True, is_last_marginal=True
        )
        y = normal(3, 1, dtype=torch.float64)
        for t in (1, 3):
            expected = 0.5 * ebm.energy.precision[t, 0, 0] * y[:, 0] ** 2 / ebm.step_std(t) ** 2
            torch.testing.assert_close(ebm.level_energy(t)(y), expected)
        assert ebm.level_scale(3) == 1.0
        assert ebm.level_scale(1) == pytest.approx(math.sqrt(0.65))
        assert ebm.step_std(1) == pytest.approx(0.1 * math.sqrt(0.35))


class TestPresets:
    def test_the_released_levels(self):
        """Cumulative products of the 1000-step schedule, in plain Python."""
        ebm = DiffusionRecoveryEBM.preset("T6", TimeMLPEnergy(2), (2,))
        variances = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
        products, noise_stds = [], []
        for first, last in [(0, 101), (101, 201), (201, 301), (301, 401), (401, 501), (501, 1000)]:
            products.append(math.prod(1 - v for v in variances[first:last]))
            noise_stds.append(math.sqrt(1 - math.prod(1 - v for v in variances[: first or 1])))
        stds = [math.sqrt(1 - product) for product in products]
        for t, (std, noise_std) in enumerate(zip(stds, noise_stds, strict=True)):
            squared_step = 2e-4 * noise_std / 0.01 * std**2
            assert ebm.step_std(t) ** 2 == pytest.approx(squared_step, rel=1e-6)
            assert ebm._levels[t].weight == pytest.approx(stds[0] / std, rel=1e-6)
        assert (ebm.num_steps, ebm.is_last_marginal, ebm.noise_factor) == (30, True, 0.99)


class TestInterpolation:
    def test_the_ends_are_the_two_samples_bit_for_bit(self):
        torch.manual_seed(0)
        ebm = DiffusionRecoveryEBM(TimeMLPEnergy(3), (3,), SCHEDULE, num_steps=4)
        ends = [ebm.draw_noise(5, key=key(seed)) for seed in (1, 2)]
        x = ebm.interpolate(*ends, (0.0, 0.5, 1.0))
        assert torch.equal(x[0], ebm.sample(5, key=key(1)))
        assert torch.equal(x[2], ebm.sample(5, key=key(2)))
        assert not torch.equal(x[1], x[0])

    def test_slerp_of_normals_keeps_their_norm(self):
        a, b = normal(50, 3072, seed=1), normal(50, 3072, seed=2)
        norms = slerp(a, b, 0.3).norm(dim=1) / math.sqrt(3072)
        assert (norms - 1).abs().max() < 0.05
        assert torch.equal(slerp(a, b, 0.0), a)
        assert torch.equal(slerp(a, b, 1.0), b)

    def test_slerp_turns_evenly_on_the_circle(self):
        angles = torch.tensor([0.3, 2.0], dtype=torch.float64)
        ends = [torch.stack([f.cos(), f.sin()], 1) for f in (angles, angles + 1.2)]
        middle = angles + 0.25 * 1.2
        expected = torch.stack([middle.cos(), middle.sin()], 1)
        torch.testing.assert_close(slerp(*ends, 0.25), expected)
        torch.testing.assert_close(slerp(2 * ends[0], 3 * ends[0], 0.25), 2.25 * ends[0])

    def test_all_noises_of_a_step_turn_row_by_row(self):
        a = DiffusionNoise(normal(4, 6, seed=1), normal(2, 3, 4, 6, seed=2))
        b = DiffusionNoise(normal(4, 6, seed=3), normal(2, 3, 4, 6, seed=4))
        between = a.slerp(b, 0.4)
        torch.testing.assert_close(between.start, slerp(a.start, b.start, 0.4))
        torch.testing.assert_close(between.steps[1, 2], slerp(a.steps[1, 2], b.steps[1, 2], 0.4))


CORRELATION, OBSERVED = 0.8, 1.5
IS_FREE = torch.tensor([[True, False]])


def correlated_energy(schedule, *, is_last_marginal=False):
    """Of y_t for data N(0, Σ) of the plane, with variances of 1."""
    covariance = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    squares = (schedule.mean_scales[:-1] ** 2).reshape(-1, 1, 1)
    scales = (1 - schedule.variances).reshape(-1, 1, 1)
    if is_last_marginal:
        scales[-1] = 1
    identity = torch.eye(2, dtype=torch.float64)
    return Gaussians((scales * (squares * covariance + (1 - squares) * identity)).inverse())


class TestInpainting:
    def test_a_marginal_level_gives_the_conditional_gaussian(self):
        """N(ρx, 1 − ρ²), its variance over 1 − δ²λ/4 for steps of size δ."""
        schedule = NoiseSchedule([0.64])
        ebm = DiffusionRecoveryEBM(
            correlated_energy(schedule, is_last_marginal=True), (2,), schedule, num_steps=100,
            step_factor=0.5, is_last_marginal=True,
        )  # fmt: skip
        x = ebm.inpaint(torch.full((20_000, 2), OBSERVED, dtype=torch.float64), IS_FREE, key=key(1))
        conditional = 1 - CORRELATION**2
        expected = conditional / (1 - 0.4**2 / conditional / 4)
        assert_means(x[:, 0], CORRELATION * OBSERVED)
        assert_means((x[:, 0] - CORRELATION * OBSERVED) ** 2, expected)

    def test_repeats_reach_the_conditional_gaussian(self):
        """Diffused and undone, x keeps p(free | observed), but for the steps' error.

        v = Var(y(a²v + σ²))/a² is the variance that the K steps of level 0 leave as it is.
        """
        schedule = NoiseSchedule([0.3, 0.6])
        options = {"num_steps": 25, "step_factor": 0.4}
        ebm = DiffusionRecoveryEBM(correlated_energy(schedule), (2,), schedule, **options)
        conditional = 1 - CORRELATION**2
        expected = conditional
        for _ in range(20):
            noisy = 0.7 * expected + 0.3
            precision = 1 / (0.7 * conditional)
            expected = chain_variance(noisy, 25, 0.4 * math.sqrt(0.3), precision, 0.3) / 0.7
        assert expected == pytest.approx(conditional, rel=0.2)
        given = torch.full((4000, 2), OBSERVED, dtype=torch.float64)
        x = ebm.inpaint(given, IS_FREE, num_repeats=8, key=key(2))
        assert_means(x[:, 0], CORRELATION * OBSERVED)
        assert_means((x[:, 0] - CORRELATION * OBSERVED) ** 2, expected)

    @pytest.mark.parametrize("options", [{"num_steps": 0}, {"is_last_marginal": True}])
    def test_all_free_is_a_sample_and_nothing_free_the_data(self, options):
        torch.manual_seed(0)
        options = {"num_steps": 4, **options}
        ebm = DiffusionRecoveryEBM(TimeMLPEnergy(3), (3,), SCHEDULE, **options)
        x = normal(5, 3)
        x_missing = torch.full_like(x, math.nan)
        everything = torch.ones(1, 3, dtype=torch.bool)
        assert torch.equal(
            ebm.inpaint(x_missing, everything, key=key(3), first=2),
            ebm.sample(5, key=key(3), first=2),
        )
        assert torch.equal(ebm.inpaint(x, ~everything, key=key(3)), x)

    def test_observed_elements_take_a_path_of_the_diffusion(self):
        """Level t has them with mean ā_t x and variance 1 − ā_t², and x_0 has them bit for bit."""
        schedule = NoiseSchedule([0.3, 0.6, 0.5])
        ebm = DiffusionRecoveryEBM(correlated_energy(schedule), (2,), schedule, num_steps=2)
        x = torch.full((20_000, 2), OBSERVED, dtype=torch.float64)
        path = ebm.inpaint(x, IS_FREE, return_trajectory=True, key=key(4)).flip(0)
        assert torch.equal(path[0, :, 1], x[:, 1])
        scales = schedule.mean_scales[1:]
        noise = path[1:, :, 1].T - scales * OBSERVED
        assert_means(noise, torch.zeros(3))
        assert_means(noise**2, 1 - scales**2)
        # Two levels on the path: Cov(x_s, x_t) = (1 − ā_s²)·ā_t/ā_s for s < t.
        expected = (1 - scales[0] ** 2) * scales[1] / scales[0]
        assert_means(noise[:, 0] * noise[:, 1], expected)


def _ebm(**options):
    return DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), SCHEDULE, **{"num_steps": 2, **options})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), [0.5]), TypeError, "is a list"),
        (lambda: _ebm(step_factor=0.0), ValueError, "step_factor is 0"),
        (lambda: _ebm(level_factors=[1.0]), ValueError, "1 for 4 levels"),
        (lambda: _ebm(num_steps=0, is_last_marginal=True), ValueError, "normal approximation"),
        (lambda: _ebm()(torch.zeros(3, 4)), ValueError, r"expected \[N, 2\]"),
        (lambda: _ebm().sample(2, noise=_ebm().draw_noise(3)), ValueError, "expected .2, 2."),
        (lambda: _ebm().sample(3, key=key(0), noise=_ebm().draw_noise(3)), ValueError, "beside"),
        (lambda: _ebm().level_energy(4), ValueError, "expected 0 to 3"),
        (lambda: _ebm().inpaint(torch.zeros(3, 2), torch.ones(3, 2)), TypeError, "expected bool"),
        (
            lambda: _ebm().inpaint(torch.zeros(3, 2), torch.tensor(True), num_repeats=0),
            ValueError,
            "num_repeats is 0",
        ),
        (lambda: DiffusionRecoveryEBM.preset("T7", nn.Identity(), (2,)), ValueError, "T7"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
