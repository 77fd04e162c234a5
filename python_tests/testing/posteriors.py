"""Six Bayesian posteriors whose moments are known without sampling.

The references are closed forms of conjugate models, or sums over grids so wide and fine that their
error is far below any Monte Carlo error here: what can be integrated out by hand is, and one or two
dimensions are left. Data are drawn with fixed seeds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from testing.chain_testing import normal

DOUBLE = torch.float64


@dataclass
class Posterior:
    """−log p(x | data) up to a constant, and means E f(x) under it."""

    name: str
    dim: int
    energy: Any
    """[N, dim] -> [N]."""
    functions: Any
    """f: [..., dim] -> [..., K]."""
    means: torch.Tensor
    """[K]: the references."""
    num_leapfrog: int = 2


def grid_means(log_density, functions, *axes):
    """Means of functions [..., K] under a density on the grid of the axes."""
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    weights = torch.softmax(log_density(points), 0)
    # Nothing of the mass may be cut off at the border.
    inside = torch.ones(len(points), dtype=torch.bool)
    for number, axis in enumerate(axes):
        inside &= (points[:, number] > axis[0]) & (points[:, number] < axis[-1])
    assert weights[~inside].sum() < 1e-7
    return weights @ functions(points)


def axis(low, high, num=801):
    return torch.linspace(low, high, num, dtype=DOUBLE)


def first_and_second(x):
    return torch.cat([x, x**2, x[..., :1] * x[..., 1:2]], -1)


def from_grid(name, log_density, *axes, functions=first_and_second):
    """A posterior in two dimensions, by quadrature."""
    means = grid_means(log_density, functions, *axes)
    return Posterior(name, len(axes), lambda x: -log_density(x), functions, means)


def logistic_regression():
    """y ~ Bernoulli(logistic(a + bt)), a and b ~ N(0, 2²)."""
    t = normal(40, seed=1)
    y = (normal(40, seed=2) * 1.8 < 0.5 + 1.5 * t).float()

    def log_density(x):
        logits = x[:, :1] + x[:, 1:] * t.to(x)
        log_likelihood = (y.to(x) * logits - torch.nn.functional.softplus(logits)).sum(1)
        return log_likelihood - x.square().sum(1) / 8

    return from_grid("logistic regression", log_density, axis(-4, 6), axis(-3, 9))


def poisson_regression():
    """y ~ Poisson(e^(a + bt)), a and b ~ N(0, 1)."""
    t = normal(30, seed=3)
    rates = torch.exp(0.7 + 0.6 * t)
    y = torch.poisson(rates, generator=torch.Generator().manual_seed(4))

    def log_density(x):
        logs = x[:, :1] + x[:, 1:] * t.to(x)
        return (y.to(x) * logs - logs.exp()).sum(1) - x.square().sum(1) / 2

    return from_grid("Poisson regression", log_density, axis(-2, 3), axis(-2, 3))


def mixture():
    """y ~ ½N(m₀, 1) + ½N(m₁, 1), m ~ N(0, 3²): two modes that exchange m₀ and m₁."""
    y = normal(30, seed=5) + torch.where(normal(30, seed=6) > 0, 2.0, -1.5)

    def log_density(x):
        parts = [-0.5 * (y.to(x) - x[:, k : k + 1]).square() for k in range(2)]
        return torch.logaddexp(*parts).sum(1) - x.square().sum(1) / 18

    def functions(x):
        return torch.cat([x, x**2, x.prod(-1, True), x.amax(-1, True), x.amin(-1, True)], -1)

    return from_grid("mixture", log_density, axis(-8, 8), axis(-8, 8), functions=functions)


def linear_regression():
    """y ~ N(Xβ, σ²), β ~ N(0, 4σ²), σ² ~ InverseGamma(3, 2), in (β, log σ²): conjugate."""
    design = torch.cat([torch.ones(25, 1), normal(25, 2, seed=7)], 1).to(DOUBLE)
    y = design @ torch.tensor([1.0, -0.5, 2.0], dtype=DOUBLE) + 0.8 * normal(25, seed=8)

    def energy(x):
        beta, log_variance = x[:, :3], x[:, 3]
        squares = (y.to(x) - beta @ design.T.to(x)).square().sum(1) + beta.square().sum(1) / 4
        return (squares / 2 + 2) * torch.exp(-log_variance) + (25 / 2 + 3 / 2 + 3) * log_variance

    precision = design.T @ design + torch.eye(3, dtype=DOUBLE) / 4
    mean = torch.linalg.solve(precision, design.T @ y)
    a = torch.tensor(3 + 25 / 2, dtype=DOUBLE)
    b = 2 + (y @ y - mean @ precision @ mean) / 2
    variance = b / (a - 1)
    means = torch.cat(
        [
            mean,
            variance * torch.linalg.inv(precision).diag() + mean**2,
            torch.stack([variance, b.log() - torch.digamma(a)]),
        ]
    )

    def functions(x):
        return torch.cat([x[..., :3], x[..., :3] ** 2, x[..., 3:].exp(), x[..., 3:]], -1)

    return Posterior("linear regression", 4, energy, functions, means)


def autoregression():
    """y_t ~ N(c + φ₁y_{t−1} + φ₂y_{t−2}, σ²), in (c, φ, log σ), given the first two.

    c, φ ~ N(0, 1) and σ ~ N⁺(0, 1). Given σ the rest is Gaussian; σ is summed over a grid.
    """
    noise, series = 0.7 * normal(62, seed=9).to(DOUBLE), [0.0, 0.0]
    for t in range(2, 62):
        series.append(float(0.3 + 0.9 * series[-1] - 0.4 * series[-2] + noise[t]))
    series = torch.tensor(series, dtype=DOUBLE)
    design = torch.stack([torch.ones(60, dtype=DOUBLE), series[1:-1], series[:-2]], 1)
    y = series[2:]

    def energy(x):
        log_std = x[:, 3]
        squares = (y.to(x) - x[:, :3] @ design.T.to(x)).square().sum(1)
        prior = x[:, :3].square().sum(1) / 2 + torch.exp(2 * log_std) / 2
        return squares * torch.exp(-2 * log_std) / 2 + (60 - 1) * log_std + prior

    log_std = axis(-4, 3, 4001)
    inverse = torch.exp(-2 * log_std)[:, None]
    precision = torch.eye(3, dtype=DOUBLE) + inverse[..., None] * (design.T @ design)
    mean = torch.linalg.solve(precision, inverse * (design.T @ y))
    evidence = (mean[:, None] @ precision @ mean[..., None]).flatten() - precision.logdet()
    evidence = (evidence - inverse[:, 0] * (y @ y) - torch.exp(2 * log_std)) / 2 - 59 * log_std
    variance = torch.linalg.inv(precision).diagonal(dim1=1, dim2=2)
    weights = torch.softmax(evidence, 0)
    assert weights[[0, -1]].sum() < 1e-12
    about_std = torch.stack([log_std, log_std.exp()], 1)
    means = weights @ torch.cat([mean, variance + mean**2, about_std], 1)

    def functions(x):
        return torch.cat([x[..., :3], x[..., :3] ** 2, x[..., 3:], x[..., 3:].exp()], -1)

    return Posterior("AR(2)", 4, energy, functions, means)


def eight_schools():
    """y_j ~ N(θ_j, σ_j²), θ_j = μ + τ z_j, μ ~ N(0, 5²), τ ~ Cauchy⁺(0, 5), in (μ, log τ, z).

    Rubin 1981; Gelman et al., "Bayesian data analysis", §5.5. Given μ and τ the effects θ_j are
    independent Gaussians; the two are summed over a grid.
    """
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=DOUBLE)
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=DOUBLE)

    def log_prior(mu, log_tau):
        return -(mu**2) / 50 - torch.log1p(torch.exp(2 * log_tau) / 25) + log_tau

    def effects(x):
        return x[..., :1] + x[..., 1:2].exp() * x[..., 2:]

    def energy(x):
        squares = ((y.to(x) - effects(x)) / sigma.to(x)).square() + x[:, 2:].square()
        return squares.sum(1) / 2 - log_prior(x[:, 0], x[:, 1])

    def functions(x):
        theta = effects(x)
        return torch.cat([x[..., :2], x[..., :1] ** 2, theta, theta**2], -1)

    def log_density(x):
        variance = sigma**2 + torch.exp(2 * x[:, 1:])
        squares = (y - x[:, :1]).square() / variance + variance.log()
        return log_prior(x[:, 0], x[:, 1]) - squares.sum(1) / 2

    def conditional_means(x):
        weight = sigma**2 / (sigma**2 + torch.exp(2 * x[:, 1:]))
        mean = weight * x[:, :1] + (1 - weight) * y
        variance = (1 - weight) * sigma**2
        return torch.cat([x, x[:, :1] ** 2, mean, variance + mean**2], 1)

    means = grid_means(log_density, conditional_means, axis(-25, 35), axis(-20, 7, 1201))
    return Posterior("eight schools", 10, energy, functions, means, num_leapfrog=4)


POSTERIORS = (
    linear_regression,
    logistic_regression,
    poisson_regression,
    mixture,
    autoregression,
    eight_schools,
)
