"""The normalised density of an energy: quadrature in two dimensions, scores, other units."""

import math

import pytest
import torch
from testing.chain_testing import key
from testing.flow_energies import points, square_grid
from torch import nn

from gencore.metrics import SquareGrid
from gencore.models import EnergyDensity
from gencore.nn import MLPEnergy
from gencore.samplers import Langevin


class Quadratic(nn.Module):
    """E = ½ (x − μ)ᵀ P (x − μ) + c."""

    def __init__(self, mean, precision, constant=0.0):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("precision", torch.tensor(precision, dtype=torch.float64))
        self.constant = constant

    def forward(self, x):
        distance = x - self.mean
        return 0.5 * ((distance @ self.precision) * distance).sum(1) + self.constant


@pytest.fixture
def network():
    """Far from Gaussian: the perceptron has the range of the quadratic that holds it."""
    torch.manual_seed(0)
    energy = MLPEnergy(2, (16, 16), prior_precision=1.0).double()
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.7)
    return energy.requires_grad_(False)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_the_density_integrates_to_one_and_its_score_is_its_gradient(network, scale):
    """∫ aᴰ exp(f(ax))/Z dx = 1 on another grid than that of Z; the score against differences."""
    log_z = SquareGrid(8.0, 200).log_integral(
        -network(SquareGrid(8.0, 200).points(dtype=torch.float64))
    )
    density = EnergyDensity(network, log_z, scale=scale)
    x, cell = square_grid(7.0 / scale, 173)
    log_prob = density.log_prob(x)
    assert abs(log_prob.exp().sum().item() * cell - 1) < 1e-6
    gaussian = torch.distributions.Normal(0, 1 / scale).log_prob(x).sum(1)
    assert (log_prob - gaussian)[gaussian > -8].std() > 0.3  # no Gaussian would have passed

    x = points(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(density.log_prob, x)
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(density.score(x), gradient)
    assert torch.autograd.gradcheck(lambda y: density.score(y, differentiable=True), x)
    assert not density.score(x).requires_grad


def test_log_z_of_a_gaussian_in_closed_form():
    """log Z = log 2π − ½ log det P − c, and the density is N(μ, P⁻¹)."""
    mean, precision, constant = [0.3, -0.4], [[2.0, -0.9], [-0.9, 1.0]], 1.7
    energy = Quadratic(mean, precision, constant)
    grid = SquareGrid(9.0, 150)
    log_z = grid.log_integral(-energy(grid.points(dtype=torch.float64)))
    determinant = 2.0 * 1.0 - 0.9**2
    assert log_z == pytest.approx(
        math.log(2 * math.pi) - 0.5 * math.log(determinant) - constant, abs=1e-9
    )
    normal = torch.distributions.MultivariateNormal(energy.mean, precision_matrix=energy.precision)
    x = points(20, 2)
    torch.testing.assert_close(EnergyDensity(energy, log_z).log_prob(x), normal.log_prob(x))


def test_a_constant_of_the_energy_changes_neither_score_nor_samples():
    mean, precision = [0.3, -0.4], [[2.0, -0.9], [-0.9, 1.0]]
    plain, shifted = (EnergyDensity(Quadratic(mean, precision, c)) for c in (0.0, 16.0))
    x = points(20, 2)
    torch.testing.assert_close(plain.score(x), shifted.score(x), rtol=0, atol=0)
    chains = [Langevin(energy, 0.1).sample(x, 10, key=key(1)) for energy in (plain, shifted)]
    torch.testing.assert_close(*chains, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(5, 1), (4, 3, 2)])
def test_other_units(shape):
    """With y = ax of density N(0, I), x has N(0, a⁻²I): the factor is aᴰ for D elements."""
    x, scale = points(math.prod(shape), 1).reshape(shape), 0.3
    dim = x[0].numel()

    class Standard(nn.Module):
        def forward(self, y):
            return 0.5 * y.flatten(1).square().sum(1)

    density = EnergyDensity(Standard(), 0.5 * dim * math.log(2 * math.pi), scale=scale)
    normal = torch.distributions.Normal(0, 1 / scale)
    torch.testing.assert_close(density.log_prob(x), normal.log_prob(x).flatten(1).sum(1))
    torch.testing.assert_close(density.score(x), -(scale**2) * x)


def test_bad_input_is_explained(network):
    with pytest.raises(ValueError, match=r"EnergyDensity: scale is 0\.0; expected a positive"):
        EnergyDensity(network, scale=0.0)
    with pytest.raises(ValueError, match=r"EnergyDensity\.log_prob: log_z is not known"):
        EnergyDensity(network).log_prob(torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="EnergyDensity: log_z must be finite"):
        EnergyDensity(network, math.inf)
    bad = EnergyDensity(nn.Linear(2, 1), 0.0)
    with pytest.raises(ValueError, match=r"EnergyDensity: energy\(x\) has shape \[3, 1\]"):
        bad.log_prob(torch.zeros(3, 2))
