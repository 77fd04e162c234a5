"""The recovery likelihood on Gaussians, where every posterior and every optimum is known."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from testing.chain_testing import assert_means, assert_variance, key, normal
from testing.flow_energies import points
from torch import nn

from gencore.nn import MLPEnergy
from gencore.objectives import (
    RecoveryEnergy,
    contrastive_loss,
    denoising_score_matching,
    normal_approximation,
    recovery_loss,
    recovery_mean,
)
from gencore.ops import philox_normal
from gencore.samplers import HMC, Langevin

MEAN, VARIANCE, NOISE_STD, NOISY = 0.5, 1.3, 0.4, 1.1
PRECISION = 1 / VARIANCE + 1 / NOISE_STD**2  # λ of the posterior
POSTERIOR_MEAN = (MEAN / VARIANCE + NOISY / NOISE_STD**2) / PRECISION


def prior(x):
    """E = (x − m)²/2s²."""
    return 0.5 * (x - MEAN).square().sum(1) / VARIANCE


class Scale(nn.Module):
    """E = ½ c ‖x‖²."""

    def __init__(self, c, dtype=torch.float64):
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c, dtype=dtype))

    def forward(self, x):
        return 0.5 * self.c * x.square().sum(1)


class TestPosterior:
    def test_it_is_the_gaussian_of_bayes(self):
        """N((m/s² + x̃/σ²)/λ, 1/λ), λ = 1/s² + 1/σ²: without bias by HMC."""
        assert pytest.approx(1.0342, abs=1e-4) == POSTERIOR_MEAN
        num = 40_000
        energy = RecoveryEnergy(prior, torch.full((num, 1), NOISY), NOISE_STD)
        x = HMC(energy, 0.2, 3).sample(energy.noisy, 20, key=key(1))
        assert_means(x, POSTERIOR_MEAN)
        assert_means((x - POSTERIOR_MEAN) ** 2, 1 / PRECISION)

    @pytest.mark.parametrize("b", [0.3, 0.5, 1.0])
    def test_langevin_steps_have_their_factor(self, b):
        """With δ = bσ the variance is (1/λ)/(1 − δ²λ/4), and the mean exact."""
        num, noise_std = 40_000, b * NOISE_STD
        energy = RecoveryEnergy(prior, torch.full((num, 1), NOISY), NOISE_STD)
        sampler = Langevin.from_noise_std(energy, noise_std)
        num_steps = math.ceil(20 / (noise_std**2 * PRECISION))
        x = sampler.sample(energy.noisy, num_steps, key=key(2))
        assert_means(x, POSTERIOR_MEAN)
        assert_variance(x - POSTERIOR_MEAN, 1 / (PRECISION * (1 - noise_std**2 * PRECISION / 4)))

    def test_every_row_has_its_own_noise_and_much_noise_leaves_the_prior(self):
        num = 20_000
        stds = torch.tensor([0.2, 1.0, 100.0])
        energy = RecoveryEnergy(prior, torch.full((3 * num, 1), NOISY), stds.repeat_interleave(num))
        precision = 1 / VARIANCE + 1 / stds**2
        steps = (0.4 / precision.sqrt()).repeat_interleave(num)  # a quarter of a period in four
        x = HMC(energy, steps, 4).sample(energy.noisy, 20, key=key(3)).reshape(3, num).T
        mean = (MEAN / VARIANCE + NOISY / stds**2) / precision
        assert mean[2].item() == pytest.approx(MEAN, abs=1e-3)
        assert_means(x, mean)
        assert_means((x - mean) ** 2, 1 / precision)

    def test_the_energy_of_rows_of_any_shape(self):
        y, noisy = points(4, 6).reshape(4, 1, 2, 3), points(4, 6, seed=1).reshape(4, 1, 2, 3)
        stds = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)

        def energy(x):
            return x.flatten(1).sum(1)

        expected = energy(y) + torch.stack([
            ((noisy[n] - y[n]) ** 2).sum() / (2 * stds[n] ** 2) for n in range(4)
        ])  # fmt: skip
        torch.testing.assert_close(RecoveryEnergy(energy, noisy, stds)(y), expected)


class TestNormalApproximation:
    @pytest.mark.parametrize("noise_std", [0.4, 0.2, 0.1, 0.05])
    def test_errors_on_a_gaussian(self, noise_std):
        """σ⁴(x̃ − m)/(s²(s² + σ²)) in the mean and σ⁴/(s² + σ²) in the variance, exactly."""
        noisy = torch.tensor([[NOISY]], dtype=torch.float64)
        precision = 1 / VARIANCE + 1 / noise_std**2
        exact = (MEAN / VARIANCE + NOISY / noise_std**2) / precision
        error = exact - recovery_mean(prior, noisy, noise_std).item()
        total = VARIANCE + noise_std**2
        assert error / noise_std**4 == pytest.approx((NOISY - MEAN) / (VARIANCE * total))
        excess = noise_std**2 - 1 / precision
        assert excess / noise_std**4 == pytest.approx(1 / total)

    def test_errors_of_another_density_are_of_fourth_order(self):
        """E = x⁴/4 + cos 2x, with the posterior's moments by quadrature: 16 times for 2σ."""

        def energy(x):
            return (0.25 * x**4 + (2 * x).cos()).sum(1)

        errors = []
        for noise_std in (0.04, 0.02, 0.01):
            noisy = torch.tensor([[0.7]], dtype=torch.float64)
            y = 0.7 + noise_std * torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
            log_p = -RecoveryEnergy(energy, noisy.expand_as(y), noise_std)(y)
            p = log_p.softmax(0)
            mean = (p * y[:, 0]).sum()
            variance = (p * (y[:, 0] - mean) ** 2).sum()
            errors.append([
                abs(mean - recovery_mean(energy, noisy, noise_std).squeeze()).item(),
                abs(variance - noise_std**2).item(),
            ])  # fmt: skip
        for coarse, fine in pairwise(errors):
            assert coarse[0] / fine[0] == pytest.approx(16, rel=0.1)
            assert coarse[1] / fine[1] == pytest.approx(16, rel=0.1)

    def test_samples_have_its_mean_and_its_noise(self):
        """σ and not √2·σ, the noise of a Langevin step with the same drift."""
        noisy = torch.full((40_000, 1), NOISY)
        x = normal_approximation(prior, noisy, NOISE_STD, key=key(4))
        mean = NOISY - NOISE_STD**2 * (NOISY - MEAN) / VARIANCE
        assert_means(x, mean)
        assert_variance(x - mean, NOISE_STD**2)
        noise, stds = normal(40_000, 1), torch.linspace(0.1, 1, 40_000)
        x = normal_approximation(prior, noisy, stds, noise=noise)
        drift = stds[:, None] ** 2 * (NOISY - MEAN) / VARIANCE
        torch.testing.assert_close(x, noisy - drift + stds[:, None] * noise)
        assert not x.requires_grad

    def test_tweedies_formula(self):
        """The energy of the noisy points gives the exact posterior mean."""
        noisy = points(5, 1)
        total = VARIANCE + NOISE_STD**2
        mean = recovery_mean(lambda x: 0.5 * (x - MEAN).square().sum(1) / total, noisy, NOISE_STD)
        expected = (MEAN / VARIANCE + noisy / NOISE_STD**2) / PRECISION
        torch.testing.assert_close(mean, expected)


# Of the data N(0, s²) with noise σ, for the energy ½cx².
S2, SIGMA2 = 2.0, 0.49
NO_CHAINS = SIGMA2 / (1 - math.sqrt((S2 - SIGMA2) / (S2 + SIGMA2)))
DATA = math.sqrt(S2) * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
SIGNS = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)


def design(*factors):
    """All combinations of rows: independent variables with the second moments of each."""
    grids = torch.cartesian_prod(*(f.flatten() for f in factors))
    return grids.T.unsqueeze(2)


class TestOptima:
    """Three objectives with three optima on N(0, s²): 1/c = s², s² + σ², and one between."""

    def test_score_matching_learns_the_noisy_density(self):
        """1/c = s² + σ², from points that have exactly the moments of the population."""
        x, noise = design(DATA, SIGNS)
        energy = Scale(1 / (S2 + SIGMA2))
        sigma = math.sqrt(SIGMA2)
        loss = denoising_score_matching(energy, x, x + sigma * noise, sigma)
        (gradient,) = torch.autograd.grad(loss, energy.c)
        assert abs(gradient.item()) < 1e-12
        # Its value: the posterior's variance s²σ²/(s² + σ²), over 2σ².
        assert loss.item() == pytest.approx(0.5 * S2 / (S2 + SIGMA2), rel=1e-12)

    def test_recovery_without_chains_lies_between(self):
        """1/c = σ²/(1 − √((s² − σ²)/(s² + σ²))) = 2.2145, with samples of the approximation."""
        assert pytest.approx(2.2145, abs=1e-4) == NO_CHAINS
        x, noise, other = design(DATA, SIGNS, SIGNS)
        sigma = math.sqrt(SIGMA2)
        energy = Scale(1 / NO_CHAINS)
        samples = normal_approximation(energy, x + sigma * noise, sigma, noise=other)
        (gradient,) = torch.autograd.grad(contrastive_loss(energy, x, samples).loss, energy.c)
        assert abs(gradient.item()) < 1e-12

    def test_recovery_with_chains_learns_the_density_of_the_data(self):
        """1/c = s²: the mean gradient is 0 there, and many errors from 0 at the others' optima."""
        num, sigma = 40_000, math.sqrt(SIGMA2)
        x = math.sqrt(S2) * normal(num, 1)
        noisy = x + sigma * normal(num, 1, seed=1)
        kernel = partial(HMC, step_size=0.5, num_leapfrog=2)
        for number, variance in enumerate((S2, NO_CHAINS, S2 + SIGMA2)):
            energy = Scale(1 / variance, dtype=torch.float32)
            terms = recovery_loss(
                energy, x, noisy, sigma, kernel=kernel, num_steps=15, key=key(number)
            )
            (gradient,) = torch.autograd.grad(terms.loss, energy.c)
            rows = 0.5 * (x.square() - terms.samples.square()).double().flatten()
            assert gradient.item() == pytest.approx(rows.mean().item(), abs=1e-5)
            error = rows.std().item() / math.sqrt(num)
            if variance == S2:
                assert abs(rows.mean().item()) < 4 * error
            else:
                assert rows.mean().item() < -5 * error  # descent raises c, towards 1/s²


class TestRecoveryLoss:
    @pytest.mark.parametrize("c", [0.3, 1.4])
    def test_its_gradient_is_that_of_the_conditional_likelihood(self, c):
        """Of −log N(x; x̃/(σ²λ), 1/λ) with λ = c + 1/σ², by autograd."""
        num, sigma = 40_000, 0.7
        x = math.sqrt(S2) * normal(num, 1)
        noisy = x + sigma * normal(num, 1, seed=1)
        energy = Scale(c, dtype=torch.float32)
        kernel = partial(HMC, step_size=0.4, num_leapfrog=3)
        terms = recovery_loss(energy, x, noisy, sigma, kernel=kernel, num_steps=15, key=key(5))
        variable = torch.tensor(c, dtype=torch.float64, requires_grad=True)
        precision = variable + 1 / sigma**2
        posterior = torch.distributions.Normal(
            noisy.double() / (sigma**2 * precision), precision.rsqrt()
        )
        (expected,) = torch.autograd.grad(-posterior.log_prob(x.double()).mean(), variable)
        # The rows are compared with their own posteriors: only the chains' noise is left.
        with torch.no_grad():
            moment = posterior.variance + posterior.mean.square()
        assert_means(0.5 * terms.samples.square() - 0.5 * moment, 0.0)
        (gradient,) = torch.autograd.grad(terms.loss, energy.c)
        error = 0.5 * (terms.samples.square() - moment).std().item() / math.sqrt(num)
        assert gradient.item() == pytest.approx(expected.item(), abs=4 * error)

    def test_without_a_kernel_it_samples_the_approximation(self):
        energy, x = MLPEnergy(2, (8,)), points(5, 2).float()
        noisy = x + 0.3 * normal(5, 2)
        terms = recovery_loss(energy, x, noisy, 0.3, key=key(6))
        samples = normal_approximation(energy, noisy, 0.3, noise=philox_normal((5, 2), key(6)))
        torch.testing.assert_close(terms.samples, samples)
        torch.testing.assert_close(terms.loss, contrastive_loss(energy, x, samples).loss)
        assert all(p.grad is None for p in energy.parameters())

    @pytest.mark.parametrize("options", [{}, {"num_steps": 3}])
    def test_processes_run_the_parts_of_one_run(self, options):
        energy, x = MLPEnergy(2, (8,)), points(6, 2).float()
        noisy, stds = x + 0.3 * normal(6, 2), torch.linspace(0.2, 0.5, 6)
        if options:
            options = {**options, "kernel": partial(Langevin, step_size=0.02)}
        whole = recovery_loss(energy, x, noisy, stds, key=key(7), **options)
        part = recovery_loss(energy, x[2:], noisy[2:], stds[2:], key=key(7), first=2, **options)
        torch.testing.assert_close(part.samples, whole.samples[2:])


class TestScoreMatching:
    def test_it_is_the_distance_of_the_scores_but_for_a_constant(self):
        """Vincent's theorem, by quadrature: two energies' losses differ as ½σ²E‖s − ∇log q‖².

        Data at ±1, so that q(x̃) is a mixture of two Gaussians.
        """
        sigma = 0.6
        side = torch.linspace(-6, 6, 2001, dtype=torch.float64)
        x = torch.tensor([-1.0, 1.0]).double().repeat_interleave(2001)[:, None]
        noisy = side.repeat(2)[:, None].clone().requires_grad_()
        normals = [torch.distributions.Normal(m, sigma).log_prob(noisy) for m in (-1.0, 1.0)]
        log_q = torch.logaddexp(*normals).squeeze(1) - math.log(2)
        (true_score,) = torch.autograd.grad(log_q.sum(), noisy)
        weights = torch.distributions.Normal(x, sigma).log_prob(noisy).exp().squeeze(1).detach()
        weights = weights / weights.sum()

        def losses(energy):
            rows = torch.stack([
                denoising_score_matching(energy, x[n : n + 1], noisy[n : n + 1], sigma)
                for n in range(0, len(x), 8)
            ])  # fmt: skip
            share = weights[::8] / weights[::8].sum()
            score = -torch.autograd.grad(energy(noisy).sum(), noisy)[0]
            fisher = 0.5 * sigma**2 * (score - true_score).square().squeeze(1)[::8]
            return (share * rows).sum().item(), (share * fisher).sum().item()

        torch.manual_seed(0)
        first, second = losses(Scale(0.8)), losses(MLPEnergy(1, (8,)).double())
        assert abs(first[1] - second[1]) > 0.01
        assert first[0] - second[0] == pytest.approx(first[1] - second[1], rel=1e-6)

    def test_gradients(self):
        torch.manual_seed(0)
        energy = MLPEnergy(2, (6,)).double()
        x, noisy = points(4, 2), points(4, 2, seed=1)
        stds = torch.tensor([0.3, 0.5, 1.0, 2.0], dtype=torch.float64)
        weight = next(energy.parameters())

        def loss(value):
            parameters = {next(energy.named_parameters())[0]: value}

            class Changed(nn.Module):
                def forward(self, y):
                    return torch.func.functional_call(energy, parameters, (y,))

            return denoising_score_matching(Changed(), x, noisy, stds)

        assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_())


class TestErrors:
    @pytest.mark.parametrize(
        ("noise_std", "error", "message"),
        [
            (0.0, ValueError, "noise_std is 0; expected a positive number"),
            ("a", TypeError, "noise_std must be a number, got str"),
            (torch.ones(3), ValueError, r"noise_std has shape \[3\] for x of shape \[2, 1\]"),
            (torch.tensor([1.0, -2.0]), ValueError, "noise_std is -2 in a row"),
        ],
    )
    def test_of_the_noise(self, noise_std, error, message):
        x = torch.zeros(2, 1)
        for name, call in (
            ("RecoveryEnergy", lambda: RecoveryEnergy(prior, x, noise_std)),
            ("recovery_mean", lambda: recovery_mean(prior, x, noise_std)),
            (
                "denoising_score_matching",
                lambda: denoising_score_matching(Scale(1.0), x, x, noise_std),
            ),
        ):
            with pytest.raises(error, match=f"^{name}: {message}"):
                call()

    def test_of_shapes_and_steps(self):
        x, energy = torch.zeros(2, 1), Scale(1.0)
        with pytest.raises(ValueError, match=r"RecoveryEnergy: got points of shape \[3, 1\]"):
            RecoveryEnergy(prior, x, 1.0)(torch.zeros(3, 1))
        with pytest.raises(ValueError, match=r"noise has shape \[2\]; expected \[2, 1\]"):
            normal_approximation(prior, x, 1.0, noise=torch.zeros(2))
        with pytest.raises(ValueError, match=r"recovery_loss: noisy has shape \[3, 1\]"):
            recovery_loss(energy, x, torch.zeros(3, 1), 1.0)
        with pytest.raises(ValueError, match=r"score_matching: noisy has shape \[3, 1\]"):
            denoising_score_matching(energy, x, torch.zeros(3, 1), 1.0)
        with pytest.raises(ValueError, match="num_steps is 3 without a kernel"):
            recovery_loss(energy, x, x, 1.0, num_steps=3)
        with pytest.raises(ValueError, match="num_steps is 0 with a kernel"):
            recovery_loss(energy, x, x, 1.0, kernel=partial(Langevin, step_size=0.1))
