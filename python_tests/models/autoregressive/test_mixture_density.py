"""The mixture density network against closed forms."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gencore.models import MixtureDensityNetwork
from gencore.ops import random_key

COVARIANCES = ("unit", "isotropic", "diagonal")


def fixed(log_weights, means, log_scales=None, **options):
    """A density without x with these parameters."""
    components, features = means.shape
    model = MixtureDensityNetwork(
        0, features, num_components=components, min_scale=0.0,
        covariance="unit" if log_scales is None else "diagonal", **options,
    )  # fmt: skip
    parts = [log_weights, means.flatten()] + ([] if log_scales is None else [log_scales.flatten()])
    with torch.no_grad():
        model.network.constant.copy_(torch.cat(parts))
        model.centres.zero_()
    return model


def test_a_mixture_of_two_is_recovered():
    """½ N(−3, 1) + ½ N(3, 1), at most as likely as its entropy, log 2 + ½ log 2πe, allows."""
    torch.manual_seed(0)
    quantiles = torch.special.ndtri((torch.arange(1000) + 0.5) / 1000)
    y = torch.cat([quantiles - 3, quantiles + 3])[:, None]
    x = torch.zeros(len(y), 1)
    model = MixtureDensityNetwork(1, 1, num_components=2, hidden_widths=(16,))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(500):
        optimizer.zero_grad()
        model(y, x).mean().backward()
        optimizer.step()
    with torch.no_grad():
        mixture = model.mixtures(x[:1])
        loss = model(y, x).mean().item()
    order = mixture.mean[0, :, 0].argsort()
    assert mixture.mean[0, order, 0].tolist() == pytest.approx([-3, 3], abs=0.1)
    assert mixture.log_weight[0].exp().tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    entropy = math.log(2) + 0.5 * math.log(2 * math.pi * math.e)  # they overlap by 1e-3 nat
    assert loss == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_density_is_that_of_torch(covariance):
    torch.manual_seed(1)
    model = MixtureDensityNetwork(
        3, 2, num_components=4, covariance=covariance, min_scale=0.2
    ).double()  # fmt: skip
    x, y = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    mixture = model.mixtures(x)
    scale = mixture.log_scale.exp()
    expected = MixtureSameFamily(
        Categorical(logits=mixture.log_weight), Independent(Normal(mixture.mean, scale), 1)
    )
    torch.testing.assert_close(model.log_prob(y, x), expected.log_prob(y))
    torch.testing.assert_close(model.mean(x), expected.mean)
    assert (scale > 0.2).all()
    assert (scale == 1).all() == (covariance == "unit")
    assert (scale[..., 0] == scale[..., 1]).all() == (covariance != "diagonal")


def test_the_gradient_is_the_closed_form():
    """∂(−log p)/∂a_k = α_k − r_k and ∂/∂μ_k = r_k (μ_k − y), r_k the posterior of component k."""
    torch.manual_seed(2)
    logits, means = torch.randn(3).double(), torch.randn(3, 2).double()
    model = fixed(logits, means).double()
    with torch.no_grad():
        model.network.constant.copy_(torch.cat([logits, means.flatten()]))
    y = torch.randn(1, 2).double()
    model(y).sum().backward()
    alpha = logits.softmax(0)
    density = alpha * torch.exp(-0.5 * (y - means).square().sum(1))
    r = density / density.sum()
    expected = torch.cat([alpha - r, (r[:, None] * (means - y)).flatten()])
    torch.testing.assert_close(model.network.constant.grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gradcheck(covariance):
    torch.manual_seed(3)
    model = MixtureDensityNetwork(2, 2, num_components=3, covariance=covariance).double()
    x, y = (torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(model.log_prob, (y, x))


def test_the_density_integrates_to_one():
    model = MixtureDensityNetwork(1, 1, num_components=3).double()
    y = torch.linspace(-20, 20, 20_001).double()[:, None]
    x = torch.full_like(y, 0.3)
    mass = torch.trapezoid(model.log_prob(y, x).exp(), y[:, 0])
    assert mass.item() == pytest.approx(1, abs=1e-6)


def test_samples_have_the_moments_of_the_mixture():
    weights, means = torch.tensor([0.2, 0.8]), torch.tensor([[-2.0, 1.0], [1.0, 0.0]])
    scales = torch.tensor([[0.5, 1.0], [1.0, 2.0]])
    model = fixed(weights.log(), means, scales.log())
    n = 40_000
    y = model.sample(num=n, generator=torch.Generator().manual_seed(0))
    mean = (weights[:, None] * means).sum(0)
    variance = (weights[:, None] * (scales**2 + means**2)).sum(0) - mean**2
    error = (variance / n).sqrt()
    assert ((y.mean(0) - mean).abs() < 4 * error).all()
    torch.testing.assert_close(y.var(0), variance, rtol=0.05, atol=0)
    # The law of one coordinate, by the probability of its left component's side.
    cdf = (weights * Normal(means[:, 0], scales[:, 0]).cdf(torch.tensor(-1.0))).sum().item()
    share = (y[:, 0] < -1).float().mean().item()
    assert share == pytest.approx(cdf, abs=4 * math.sqrt(cdf * (1 - cdf) / n))


def test_processes_share_the_samples():
    model, key, x = MixtureDensityNetwork(1, 2), random_key(), torch.randn(9, 1)
    whole = model.sample(x, key=key)
    parts = [model.sample(x[:4], key=key), model.sample(x[4:], key=key, first=4)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_the_mode_is_the_highest_one():
    model = fixed(torch.tensor([0.3, 0.7]).log(), torch.tensor([[-3.0], [3.0]]))
    mode = model.mode()
    assert mode.item() == pytest.approx(3, abs=1e-2)
    grid = torch.linspace(-6, 6, 12_001)[:, None]
    assert mode.item() == pytest.approx(grid[model.log_prob(grid).argmax()].item(), abs=2e-3)
    # Two equal components close together have their mode in the middle, and not at a centre.
    model = fixed(torch.zeros(2), torch.tensor([[-0.5], [0.5]]))
    assert model.mode().item() == pytest.approx(0, abs=1e-3)


def test_points_far_away_keep_a_finite_density_and_gradient():
    model = MixtureDensityNetwork(1, 1, num_components=3)
    y, x = torch.tensor([[1e4], [-1e4]]), torch.zeros(2, 1)
    loss = model(y, x).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_component_cannot_collapse_on_a_point():
    model = MixtureDensityNetwork(0, 1, num_components=1, min_scale=0.1)
    with torch.no_grad():
        model.network.constant.copy_(torch.tensor([0.0, 0.0, -50.0]))
        model.centres.zero_()
    bound = Normal(0.0, 0.1).log_prob(torch.tensor(0.0)).item()
    assert model.log_prob(torch.zeros(1, 1)).item() == pytest.approx(bound, abs=1e-4)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="covariance is 'full'"):
        MixtureDensityNetwork(1, 1, covariance="full")
    model = MixtureDensityNetwork(2, 1)
    with pytest.raises(ValueError, match=r"x is None; expected a tensor \[N, 2\]"):
        model.log_prob(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"y has shape \[3, 2\]; expected \[N, 1\]"):
        model.log_prob(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="context_size is 0"):
        MixtureDensityNetwork(0, 1).log_prob(torch.zeros(3, 1), torch.zeros(3, 1))
