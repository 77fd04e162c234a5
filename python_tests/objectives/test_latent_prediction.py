"""Prediction with latents on two futures that are equally likely (Lucas 2020, §6.2.2)."""

import pytest
import torch
from testing.latent_testing import double
from torch import nn

from gencore.objectives import LatentPrediction

Y = double([[-1.0], [1.0]]).repeat(50, 1)
X = torch.zeros_like(Y)
BIT = double([[0.0], [1.0]])


class AffineInLatent(nn.Module):
    """a + bz: a prediction for each value of a bit, and x says nothing."""

    def __init__(self, bias=-0.2, slope=0.5):
        super().__init__()
        self.bias, self.slope = (nn.Parameter(double(value)) for value in (bias, slope))

    def forward(self, x, z):
        return self.bias + self.slope * z + 0 * x


def train(weight, candidates=BIT):
    """The loss and the squared error after minimisation over both, with weight·z as the cost."""
    network = AffineInLatent()
    loss = LatentPrediction(network, lambda z: weight * z.sum(1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for _ in range(200):
        z = loss.choose(X, Y, candidates)
        optimizer.zero_grad()
        loss(X, Y, z).mean().backward()
        optimizer.step()
    z = loss.choose(X, Y, candidates)
    error = (Y - network(X, z)).square().mean()
    return loss(X, Y, z).mean().item(), error.item()


def test_without_a_latent_the_error_is_the_variance():
    assert train(0.0, BIT[:1]) == pytest.approx((1, 1))


def test_one_bit_is_enough():
    assert train(0.0) == pytest.approx((0, 0), abs=1e-8)


@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_a_bit_that_is_cheap_is_paid_for(weight):
    """By half of the rows: λ/2, where one prediction for both costs 1."""
    assert train(weight) == pytest.approx((weight / 2, 0), abs=1e-6)


@pytest.mark.parametrize("weight", [5.0, 1e6])
def test_one_that_is_dear_is_not_used(weight):
    assert train(weight) == pytest.approx((1, 1))


@pytest.mark.parametrize("penalty", [0.0, 1.0, 4.0, 1e3])
def test_descent_reaches_the_inner_minimum(penalty):
    """Of (y − 2z)² + λz²: z = 2y/(4 + λ), with y²λ/(4 + λ), from 0 to 1 as λ grows."""
    loss = LatentPrediction(lambda x, z: 2 * z, lambda z: penalty * z.square().sum(1))
    step = 0.5 / (4 + penalty)  # a Newton step
    z = loss.descend(X, Y, torch.zeros_like(Y), num_steps=2, step_size=step)
    torch.testing.assert_close(z, 2 * Y / (4 + penalty))
    expected = torch.full((100,), penalty / (4 + penalty), dtype=torch.float64)
    torch.testing.assert_close(loss(X, Y, z), expected)


def test_the_gradient_at_the_minimum_is_that_of_the_minimum():
    """d/dw y²λ/(w² + λ) = −2wλy²/(w² + λ)²."""
    w, penalty = double(1.5).requires_grad_(), 0.7
    loss = LatentPrediction(lambda x, z: w * z, lambda z: penalty * z.square().sum(1))
    z = loss.descend(X, Y, torch.zeros_like(Y), num_steps=1, step_size=0.5 / (1.5**2 + penalty))
    (grad,) = torch.autograd.grad(loss(X, Y, z).mean(), w)
    torch.testing.assert_close(grad, double(-2 * 1.5 * penalty / (1.5**2 + penalty) ** 2))


def test_the_best_of_finitely_many():
    """Against all pairs; of equals it is the first."""
    generator = torch.Generator().manual_seed(0)
    x, y, codes = (torch.randn(n, 3, generator=generator) for n in (6, 6, 5))
    loss = LatentPrediction(lambda x, z: x + z, lambda z: z.abs().sum(1))
    error = (y[:, None] - x[:, None] - codes).square().sum(2) + codes.abs().sum(1)
    assert torch.equal(loss.choose(x, y, codes), codes[error.argmin(1)])
    assert not loss.choose(x, y, codes).requires_grad
    sign = LatentPrediction(lambda x, z: z.square())
    assert torch.equal(sign.choose(X, Y, double([[1.0], [-1.0]])), torch.ones_like(Y))


def test_bad_input():
    with pytest.raises(ValueError, match=r"network gives \[100, 2\] for a target \[100, 1\]"):
        LatentPrediction(lambda x, z: z)(X, Y, torch.zeros(100, 2))
    with pytest.raises(ValueError, match=r"penalty gives \[100, 1\] for latents \[100, 1\]; expe"):
        LatentPrediction(lambda x, z: z, lambda z: z)(X, Y, Y)
    with pytest.raises(ValueError, match=r"choose: candidates have shape \[0, 1\]; expected \[M"):
        LatentPrediction(lambda x, z: z).choose(X, Y, BIT[:0])
