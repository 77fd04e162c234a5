"""The contrastive gradient (Mathieu 2017, §2.1.2): exact on a grid, with negatives held fixed."""

import pytest
import torch
from torch import nn

from gencore.models import contrastive_loss

GRID = torch.linspace(-6, 6, 401, dtype=torch.float64)[:, None]


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.log_precision = nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.log_precision.exp() * (x - self.mean).square().sum(1)


def network():
    torch.manual_seed(0)
    layers = (nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))
    return nn.Sequential(*layers).double()


def gradient(loss, energy):
    return torch.autograd.grad(loss, list(energy.parameters()), allow_unused=True)


@pytest.mark.parametrize("make", [network, Quadratic])
def test_it_is_that_of_the_likelihood_on_a_grid(make):
    """With all places as samples, weighted by exp(−E), to 1e-12. Through the weights, that is
    without holding the negative term's distribution fixed, it would be another."""
    energy, x = make(), torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    nll = energy(x).mean() + torch.logsumexp(-energy(GRID), 0)
    exact = gradient(nll, energy)
    weights = torch.softmax(-energy(GRID), 0)
    ours = gradient(contrastive_loss(energy, x, GRID, weights=weights).loss, energy)
    literal = gradient(energy(x).mean() - (weights * energy(GRID)).sum(), energy)
    differs = 0.0
    for a, b, c in zip(ours, exact, literal, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        differs = max(differs, (b - c).abs().max().item())
    assert differs > 0.05


def test_samples_get_no_gradient():
    energy, x = network(), torch.zeros(3, 1, dtype=torch.float64)
    samples = torch.ones(4, 1, dtype=torch.float64, requires_grad=True)
    contrastive_loss(energy, x, samples).loss.backward()
    assert samples.grad is None


def test_descent_recovers_a_gaussian_and_collapses_without_negatives():
    x = torch.tensor([[-0.5], [0.5], [1.5], [2.5]], dtype=torch.float64)  # mean 1, variance 1.25
    energy = Quadratic()
    for _ in range(400):
        weights = torch.softmax(-energy(GRID), 0)
        loss = contrastive_loss(energy, x, GRID, weights=weights).loss
        with torch.no_grad():
            for parameter, grad in zip(energy.parameters(), gradient(loss, energy), strict=True):
                parameter -= 0.5 * grad
    assert energy.mean.item() == pytest.approx(1.0, abs=1e-4)
    assert energy.log_precision.exp().item() == pytest.approx(1 / 1.25, abs=1e-3)

    # The positive term alone has its infimum where all energies are 0.
    for _ in range(400):
        loss = energy(x).mean()
        with torch.no_grad():
            for parameter, grad in zip(energy.parameters(), gradient(loss, energy), strict=True):
                parameter -= 5.0 * grad
    assert energy(GRID).max() < 0.1
