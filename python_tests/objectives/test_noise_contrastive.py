"""Noise-contrastive estimation against closed forms of Gaussians."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from gencore.metrics import SquareGrid
from gencore.models import EnergyDensity
from gencore.objectives import noise_contrastive_loss, noise_contrastive_value


def normals(std, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return std * torch.randn(num, 1, generator=generator, dtype=torch.float64)


def gaussian(std):
    return Independent(Normal(torch.zeros(1).double(), std * torch.ones(1).double()), 1)


class Quadratic(nn.Module):
    """E = θx²/2."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.theta * x.square().sum(1)


@pytest.mark.parametrize("noise_ratio", [1.0, 4.0])
def test_the_value_of_a_density_that_is_its_noise(noise_ratio):
    """log 1/(1+ν) + ν log ν/(1+ν): −2 log 2 for ν = 1, where the accuracy is a coin's."""
    contrast = noise_contrastive_value(torch.zeros(7), torch.zeros(3), noise_ratio=noise_ratio)
    share = 1 / (1 + noise_ratio)
    expected = math.log(share) + noise_ratio * math.log(1 - share)
    assert contrast.value.item() == pytest.approx(expected, abs=1e-6)
    assert contrast.loss.item() == -contrast.value.item()
    # With more noise than data, all that looks alike is called noise.
    assert contrast.accuracy.item() == pytest.approx(0.5 if noise_ratio == 1 else 1 - share)


def test_far_apart_nothing_overflows():
    ratio = torch.tensor([1e4, 0.0], requires_grad=True)
    contrast = noise_contrastive_value(ratio[:1], -ratio[:1])
    assert (contrast.value.item(), contrast.accuracy.item()) == (0, 1)
    wrong = noise_contrastive_value(-ratio[:1], ratio[:1])
    assert (wrong.value.item(), wrong.accuracy.item()) == (-2e4, 0)
    wrong.value.backward()
    assert ratio.grad[0].item() == -2


def test_at_the_data_it_is_the_jensen_shannon_divergence():
    """J(p_data) = −2 log 2 + KL(p‖m) + KL(q‖m), m = (p+q)/2 (4.11): by quadrature on the plane."""
    grid = SquareGrid(9.0, 150)
    x = grid.points().double()
    p, q = (Normal(mean, std).log_prob(x).sum(1) for mean, std in ((0.7, 1.0), (-0.5, 0.8)))
    m = torch.logaddexp(p, q) - math.log(2)
    divergence = grid.kl_divergence(p, m) + grid.kl_divergence(q, m)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 200_000, 2, generator=generator, dtype=torch.float64)
    data, noise = 0.7 + draws[0], -0.5 + 0.8 * draws[1]

    def ratio(y):
        return (Normal(0.7, 1.0).log_prob(y) - Normal(-0.5, 0.8).log_prob(y)).sum(1)

    value = noise_contrastive_value(ratio(data), ratio(noise)).value.item()
    spread = ratio(data).sigmoid().log().std() + (-ratio(noise)).sigmoid().log().std()
    assert divergence > 0.1
    assert value == pytest.approx(
        -2 * math.log(2) + divergence, abs=4 * spread.item() / 200_000**0.5
    )


@pytest.mark.parametrize(("num_noise", "noise_ratio"), [(200_000, 1.0), (600_000, 3.0)])
def test_a_gaussian_and_its_normaliser_are_recovered(num_noise, noise_ratio):
    """θ = 1/0.6 and c = ½ log(2π·0.6), from noise N(0, 1); the optimum has an accuracy over ½."""
    variance = 0.6
    density = EnergyDensity(Quadratic(1.0), 0.0, learned=True).double()
    noise = gaussian(1.0)
    x, samples = normals(variance**0.5, 200_000), normals(1.0, num_noise, 1)
    optimizer = torch.optim.LBFGS(density.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        contrast = noise_contrastive_loss(
            density.log_prob, noise, x, samples, noise_ratio=noise_ratio
        )
        contrast.loss.backward()
        return contrast.loss

    optimizer.step(closure)
    # Errors of a few times 1/√N: the Fisher information of the classification is about 0.1.
    assert density.energy.theta.item() == pytest.approx(1 / variance, abs=0.04)
    assert density.log_z.item() == pytest.approx(0.5 * math.log(2 * math.pi * variance), abs=0.02)
    contrast = noise_contrastive_loss(density.log_prob, noise, x, samples)
    assert contrast.accuracy > 0.5


def test_the_gradient_by_hand():
    """∂J/∂θ = −E_p[(1−u) x²/2] + E_q[u x²/2] and ∂J/∂c = −E_p[1−u] + E_q[u]; noise gets none."""
    theta, log_z = 1.3, 0.4
    density = EnergyDensity(Quadratic(theta), log_z, learned=True).double()
    scale = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    x, samples = normals(0.7, 40), normals(1.2, 30, 1)
    noise = Independent(Normal(torch.zeros(1).double(), scale * torch.ones(1)), 1)
    noise_contrastive_loss(density.log_prob, noise, x, samples * scale).loss.backward()
    assert scale.grad is None

    def u(y):
        p = torch.exp(-0.5 * theta * y.square() - log_z)
        return p / (p + torch.exp(noise.log_prob(y).detach())[:, None])

    y = samples * 1.2
    by_theta = -((1 - u(x)) * x.square() / 2).mean() + (u(y) * y.square() / 2).mean()
    by_c = -(1 - u(x)).mean() + u(y).mean()
    torch.testing.assert_close(density.energy.theta.grad, -by_theta)
    torch.testing.assert_close(density.log_z.grad, -by_c)


def test_a_shift_of_the_energy_is_one_of_the_constant():
    x, samples = normals(1.0, 20), normals(1.0, 20, 1)

    def value(shift, log_z):
        density = EnergyDensity(Quadratic(2.0), log_z, learned=True).double()
        return noise_contrastive_loss(
            lambda y: density.log_prob(y) + shift, gaussian(1.0), x, samples
        ).value

    torch.testing.assert_close(value(0.7, 1.2), value(0.0, 0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_contrastive_value(torch.zeros(2, 1), torch.zeros(2)), r"data_log_ratio is"),
        (lambda: noise_contrastive_value(torch.zeros(2), torch.zeros(0)), r"noise_log_ratio is"),
        (
            lambda: noise_contrastive_value(torch.zeros(2), torch.zeros(2), noise_ratio=0),
            "noise_ratio is 0; expected a positive",
        ),
        (
            lambda: noise_contrastive_loss(
                lambda x: x.sum(1), gaussian(1.0), torch.zeros(2, 1), torch.zeros(2, 3)
            ),
            "samples have shape",
        ),
        (
            lambda: noise_contrastive_loss(
                lambda x: x, gaussian(1.0), torch.zeros(2, 1), torch.zeros(2, 1)
            ),
            r"log_prob\(x\) has shape",
        ),
        (lambda: EnergyDensity(Quadratic(1.0), learned=True), "log_z is None"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
