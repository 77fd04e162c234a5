"""Variances of gradient estimators against exact quadrature and the theorem (Yan 2022, §2.1.5)."""

import numpy as np
import pytest
import torch

from gencore.objectives.gradient_estimators import estimator_variances


def problem(seed, k=3):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(k, k))
    parts = (np.array(rng.normal()), rng.normal(size=k), h + h.T, rng.uniform(0.3, 2, k))
    return [torch.from_numpy(p) for p in parts]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_quadrature_and_both_estimators_are_unbiased(seed):
    """Six Gauss–Hermite nodes a dimension are exact for the polynomials of degree 8."""
    c, w, h, std = problem(seed)
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(6))
    noise = torch.cartesian_prod(nodes, nodes, nodes)
    p = torch.cartesian_prod(weights, weights, weights).prod(1)[:, None]
    p = p / p.sum()
    dz = std * noise
    f = (c + dz @ w + ((dz @ h) * dz).sum(1) / 2)[:, None]
    slope = w + dz @ h
    draws = (
        f * noise / std,
        f * (noise**2 - 1) / (2 * std**2),
        slope,
        slope * noise / (2 * std),
    )
    means = [(p * d).sum(0) for d in draws]
    for mean, expected in zip(means, (w, h.diagonal() / 2) * 2, strict=True):
        torch.testing.assert_close(mean, expected)
    for d, mean, found in zip(draws, means, estimator_variances(c, w, h, std), strict=True):
        torch.testing.assert_close(found, (p * (d - mean) ** 2).sum(0))


def test_the_ratios_of_the_theorem_hold():
    for seed in range(300):
        v = estimator_variances(*problem(seed))
        assert (v.score_mean >= 1.5 * v.reparametrised_mean).all()
        assert (v.score_variance >= 3 * v.reparametrised_variance).all()


@pytest.mark.parametrize(("h", "std"), [(1.0, 1.0), (-0.7, 1.6)])
def test_they_are_attained(h, std):
    zero, hs, s = (torch.tensor([v], dtype=torch.float64) for v in (0.0, h, std))
    v = estimator_variances(-1.5 * h * s[0] ** 2, zero, hs[:, None], s)
    torch.testing.assert_close(v.score_mean, 1.5 * v.reparametrised_mean)
    v = estimator_variances(-2.5 * h * s[0] ** 2, zero, hs[:, None], s)
    torch.testing.assert_close(v.score_variance, 3 * v.reparametrised_variance)


def test_shapes_are_named():
    with pytest.raises(ValueError, match="estimator_variances: expected value"):
        estimator_variances(torch.ones(1), torch.ones(2), torch.ones(2, 2), torch.ones(2))
