"""Probabilities of integers: sums, tails and densities in closed form."""

import math

import pytest
import torch

from gencore.nn import FactorizedPrior


def make(channels=2, num_components=3, log_scale=0.0, seed=0):
    prior = FactorizedPrior(channels, num_components=num_components)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(generator=generator)
        prior.log_scales.add_(log_scale)
    return prior


def cdf(prior, y):
    """F_c(y) of y [L], [C, L], in float64."""
    logits, means, scales = (
        x.detach().double().unsqueeze(-1)
        for x in (prior.logits, prior.means, prior.log_scales.exp())
    )
    return (logits.softmax(1) * torch.sigmoid((y - means) / scales)).sum(1)


@pytest.mark.parametrize("log_scale", [-6.0, 0.0, 4.0])
def test_integers_have_the_differences_of_the_distribution_function(log_scale):
    prior = make(log_scale=log_scale)
    values = torch.arange(-30, 31, dtype=torch.float64)
    expected = cdf(prior, values + 0.5) - cdf(prior, values - 0.5)
    y = values.float().expand(1, 2, 61)
    torch.testing.assert_close(prior.log_prob(y)[0].exp().double(), expected, rtol=1e-4, atol=1e-6)
    table = prior.probabilities(-30, 30)
    torch.testing.assert_close(table[:, 1:-1], expected[:, 1:-1], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(table.sum(1), torch.ones(2).double(), rtol=0, atol=1e-12)


def test_between_integers_it_is_a_density():
    y = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    density = make().double().log_prob(y.expand(1, 2, -1))[0].exp()
    torch.testing.assert_close(
        torch.trapezoid(density, y), torch.ones(2).double(), rtol=0, atol=1e-6
    )


def test_values_far_out_have_finite_gradients():
    prior = make(log_scale=-8.0)
    y = torch.tensor([[[-1e4, 0.5, 1e4], [-1e4, 0.0, 1e4]]], requires_grad=True)
    log_prob = prior.log_prob(y)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert (log_prob <= 0).all()
    for tensor in (y, *prior.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("tail", [1e-2, 1e-9])
def test_beyond_the_support_there_is_little(tail):
    prior = make()
    low, high = prior.support(tail)
    edges = torch.tensor([low - 0.5, high + 0.5], dtype=torch.float64)
    below, above = cdf(prior, edges).T
    assert below.max() <= tail
    assert (1 - above).max() <= tail
    assert high - low < 60 * math.log10(1 / tail)  # not everything


def test_it_learns_a_distribution():
    """Its cross-entropy comes down to the entropy."""
    p = torch.tensor([0.1, 0.5, 0.05, 0.05, 0.3], dtype=torch.float64)
    prior = FactorizedPrior(1).double()
    optimizer = torch.optim.Adam(prior.parameters(), 0.05)
    y = torch.arange(-2.0, 3.0, dtype=torch.float64).view(5, 1)
    for _ in range(600):
        loss = -(p * prior.log_prob(y).squeeze(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = torch.special.entr(p).sum()
    assert entropy <= loss < entropy + 0.03


def test_inputs_that_do_not_fit():
    prior = FactorizedPrior(2)
    with pytest.raises(ValueError, match="FactorizedPrior: num_components is 0"):
        FactorizedPrior(2, num_components=0)
    with pytest.raises(ValueError, match=r"y has shape \[4, 3\]; expected \[N, 2, \.\.\.\]"):
        prior.log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="got low 3 and high 3; expected low < high"):
        prior.probabilities(3, 3)
    with pytest.raises(ValueError, match="tail is 0; expected 0 < tail < 1/2"):
        prior.support(0)
