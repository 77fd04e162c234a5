"""The likelihood of a frozen generator, against the exact one of a linear generator."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from gencore.models import fit_likelihood_around

NOISE = 0.05


class Generator(nn.Module):
    """x = Wz + b, with a batch normalisation that is the identity in evaluation mode alone."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 4)
        self.norm = nn.BatchNorm1d(4, eps=1e-12)
        with torch.no_grad():
            self.linear.weight.copy_(
                torch.tensor([[0.2, 0.0], [-0.1, 0.1], [0.1, 0.1], [0.05, -0.15]])
            )
            self.linear.bias.copy_(torch.tensor([0.1, 0.0, -0.1, 0.05]))

    def forward(self, z):
        return self.norm(self.linear(z))


def make_images(generator, num):
    with torch.no_grad():
        x = generator.linear(torch.randn(num, 2)) + NOISE * torch.randn(num, 4)
    return ((x + 0.5) * 256).floor().clamp(0, 255).byte()


def exact(generator, std, x):
    """ln p(x) = ln N(x; b, WWᵀ + σ²I), and the posterior N(z; MWᵀ(x − b)/σ², M) with
    M = (I + WᵀW/σ²)⁻¹."""
    weight, bias = generator.linear.weight.detach().double(), generator.linear.bias.double()
    marginal = MultivariateNormal(bias, weight @ weight.T + std**2 * torch.eye(4).double())
    covariance = torch.linalg.inv(torch.eye(2).double() + weight.T @ weight / std**2)
    mean = (x - bias) @ weight @ covariance / std**2
    return marginal.log_prob(x), MultivariateNormal(mean, covariance)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    generator = Generator()
    images = make_images(generator, 4000)
    before = deepcopy(generator.state_dict())
    encoder = nn.Linear(4, 4)
    nn.init.zeros_(encoder.weight)
    model = fit_likelihood_around(
        generator, encoder, images, 2, steps=600, batch_size=128, learning_rate=0.01
    )
    return generator, before, model, images


def test_l29_the_generator_stays_as_it_was_bit_for_bit(fitted):
    generator, before, _, _ = fitted
    after = generator.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert generator.training
    assert generator.norm.training
    assert all(weight.grad is None and weight.requires_grad for weight in generator.parameters())


class TestBound:
    """ln p(x) − bound = KL(q(z | x) ‖ p(z | x)) ≥ 0."""

    @pytest.mark.parametrize("is_fitted", [True, False])
    def test_l29_it_is_below_the_exact_likelihood_by_the_divergence_of_the_posteriors(
        self, fitted, is_fitted
    ):
        generator, _, model, images = fitted
        model = deepcopy(model).double()
        if not is_fitted:
            torch.manual_seed(1)
            nn.init.normal_(model.encoder.weight, std=0.5)
        x = (images.double() + 0.5) / 256 - 0.5
        with torch.no_grad():
            bound = model.elbo(x, key=torch.tensor([1, 0]))
            mean, log_std = model.encode(x)
        log_prob, best = exact(generator, model.log_std.exp().item(), x)
        chosen = MultivariateNormal(mean, torch.diag_embed((2 * log_std).exp()))
        divergence = kl_divergence(chosen, best)
        gap = log_prob - bound
        error = gap.std().item() / math.sqrt(len(gap))
        assert gap.mean().item() >= -4 * error
        residual = gap - divergence
        assert abs(residual.mean().item()) < 4 * residual.std().item() / math.sqrt(len(gap))
        if is_fitted:
            assert gap.mean().item() < 0.1
        else:
            assert gap.mean().item() > 1

    def test_l29_more_latents_come_nearer_from_below(self, fitted):
        generator, _, model, images = fitted
        x = (images[:1000].float() + 0.5) / 256 - 0.5
        log_prob, _ = exact(generator, model.log_std.exp().item(), x.double())
        key = torch.tensor([1, 0])
        with torch.no_grad():
            gaps = [
                (log_prob - model.log_prob_bound(x, num, key=key)).mean().item()
                for num in (1, 10, 100)
            ]
        # The mean over a thousand points of a hundred weights each has a standard error of 0.001.
        assert gaps[0] > gaps[1] > gaps[2] > -4e-3
        assert gaps[2] < 0.01

    def test_the_noise_is_that_of_the_data(self, fitted):
        """With that of dequantisation, of a uniform number of width 1/256."""
        _, _, model, _ = fitted
        expected = math.sqrt(NOISE**2 + 1 / 12 / 256**2)
        assert model.log_std.exp().item() == pytest.approx(expected, rel=0.03)


def test_a_noise_level_starts_at_the_distance_of_samples():
    """Before any other step: the deviation of images from samples of a constant generator."""
    generator = nn.Linear(2, 4)
    nn.init.zeros_(generator.weight)
    nn.init.zeros_(generator.bias)
    images = torch.full((10, 4), 256 - 32, dtype=torch.uint8)  # y − ½ in 0.375 + [0, 1/256)
    model = fit_likelihood_around(
        generator, nn.Linear(4, 4), images, 2, steps=1, learning_rate=1e-9
    )
    assert model.log_std.exp().item() == pytest.approx(0.375 + 1 / 512, rel=1e-3)
