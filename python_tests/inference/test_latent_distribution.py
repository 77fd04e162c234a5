"""Estimates of the latents' distribution: densities in closed form, moments of draws."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from gencore.inference import LatentDistribution


def latents(num=200, size=2, seed=0):
    """Two groups, wider in one direction than in the other."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(2, (num, 1), generator=generator).double() * 4 - 2
    noise = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return side + noise * torch.linspace(0.5, 1.0, size, dtype=torch.float64)


def draw(estimate, num=40_000):
    return estimate.sample(num, generator=torch.Generator().manual_seed(1))


def assert_covariance(x, expected):
    """Within 5 standard errors of each of its elements."""
    centred = x - x.mean(0)
    products = centred[:, :, None] * centred[:, None]
    error = products.std(0) / math.sqrt(len(x))
    assert ((products.mean(0) - expected).abs() < 5 * error).all()


def test_the_empirical_one_draws_the_latents_and_each_as_often():
    x = latents(5)
    drawn = draw(LatentDistribution(x, "empirical"))
    counts = (drawn[:, None] == x).all(2).double()
    assert (counts.sum(1) == 1).all()  # all are latents
    assert ((counts.mean(0) - 0.2).abs() < 5 * math.sqrt(0.16 / len(drawn))).all()


def test_the_gaussian_has_mean_and_covariance():
    x = latents()
    estimate = LatentDistribution(x, "gaussian")
    exact = MultivariateNormal(x.mean(0), torch.cov(x.T))
    points = latents(50, seed=2)
    torch.testing.assert_close(estimate.log_prob(points), exact.log_prob(points))
    drawn = draw(estimate)
    assert_covariance(drawn, torch.cov(x.T))
    error = x.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - x.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("bandwidth", [None, 0.2])
def test_the_kernel_density_is_the_mixture_and_its_draws_are_of_it(bandwidth):
    x = latents()
    estimate = LatentDistribution(x, "kde", bandwidth=bandwidth)
    h = 200 ** (-1 / 6) if bandwidth is None else bandwidth
    covariance = torch.cov(x.T)
    points = latents(20, seed=2)
    mixture = torch.stack([MultivariateNormal(m, h**2 * covariance).log_prob(points) for m in x])
    exact = mixture.logsumexp(0) - math.log(200)
    torch.testing.assert_close(estimate.log_prob(points), exact)
    # Between latents, 1/M and not 1/(M − 1); within a kernel, h²Σ.
    assert_covariance(draw(estimate), torch.cov(x.T, correction=0) + h**2 * covariance)


def test_densities_integrate_to_one():
    x = latents(30, 1)
    grid = torch.linspace(-24, 24, 8001, dtype=torch.float64)[:, None]
    for form in ("gaussian", "kde"):
        mass = LatentDistribution(x, form).log_prob(grid).exp().sum() * (48 / 8000)
        assert mass.item() == pytest.approx(1, abs=1e-8)


def test_only_the_gaussian_fills_the_gap_between_groups():
    x = latents(400, 1)
    assert (x.abs() > 0.3).all()
    shares = {
        form: (draw(LatentDistribution(x, form)).abs() < 0.3).double().mean().item()
        for form in ("empirical", "gaussian")
    }
    assert shares["empirical"] == 0
    assert shares["gaussian"] > 0.05


def test_rows_of_any_shape_and_a_checkpoint():
    x = latents(50, 6).view(50, 2, 3)
    estimate = LatentDistribution(x, "kde")
    assert draw(estimate, 7).shape == (7, 2, 3)
    other = LatentDistribution(latents(50, 6, seed=3).view(50, 2, 3), "kde")
    other.load_state_dict(estimate.state_dict())
    assert torch.equal(draw(other), draw(estimate))
    assert torch.equal(other.log_prob(x), estimate.log_prob(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3),), r"latents have shape \[3\]; expected \[M, ...\], not empty"),
        ((torch.ones(0, 3),), r"latents have shape \[0, 3\]"),
        ((torch.tensor([[math.nan]]),), "latents are not all finite"),
        ((torch.ones(3, 3), "gaussian"), "3 latents of 3 numbers have no covariance matrix"),
        ((torch.ones(9, 3), "gaussian"), "the latents lie in a plane"),
        ((torch.ones(9, 3), "histogram"), "form is 'histogram'; expected one of empirical"),
    ],
)
def test_what_does_not_fit_is_told(arguments, message):
    with pytest.raises(ValueError, match=f"^LatentDistribution: .*{message}"):
        LatentDistribution(*arguments)


def test_what_a_form_has_not_is_told():
    with pytest.raises(ValueError, match=r"bandwidth is 0\.1 with form 'gaussian'"):
        LatentDistribution(latents(), "gaussian", bandwidth=0.1)
    with pytest.raises(ValueError, match="the empirical distribution has no density"):
        LatentDistribution(latents()).log_prob(latents())
    with pytest.raises(ValueError, match=r"got latents of shape \[5, 3\]; expected \[N, 2\]"):
        LatentDistribution(latents(), "kde").log_prob(latents(5, 3))
