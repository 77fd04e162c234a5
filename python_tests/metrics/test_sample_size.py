"""The law of the Fréchet distance in the number of samples."""

import math

import pytest
import torch

from gencore.metrics import (
    GaussianMoments,
    fit_sample_size,
    frechet_at_infinity,
    frechet_distance,
    gaussian_moments,
    inception_score,
)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_l15_inception_score_and_frechet_distance():
    """FID(X, X) = 0, a shift costs its square, subsets follow κ(1/n − 1/N), IS is in [1, K]."""
    dim, num = 8, 8000
    x, shift = randn(num, dim), randn(dim, seed=1)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + shift) == pytest.approx(shift.square().sum().item())

    kappa = dim + dim * (dim + 1) / 4
    whole = gaussian_moments(x)
    for n in (400, 1600):
        subsets = x[torch.randperm(num, generator=torch.Generator().manual_seed(2))].split(n)
        distances = torch.tensor([frechet_distance(subset, whole) for subset in subsets])
        # The next order is about κ d/n², and the disjoint subsets give the Monte Carlo error.
        error = 4 * distances.std().item() / math.sqrt(len(subsets)) + kappa * dim / n**2
        assert distances.mean().item() == pytest.approx(kappa * (1 / n - 1 / num), abs=error)

    logits = 3 * randn(50, 10, seed=3)
    assert 1 < inception_score(logits) < 10
    assert inception_score(1e4 * torch.eye(10)) == pytest.approx(10)
    assert inception_score(torch.ones(4, 10)) == 1


def test_the_limit_of_samples_from_the_reference_is_zero_and_the_slope_is_known():
    dim = 4
    exact = GaussianMoments(torch.zeros(dim), torch.eye(dim), 0)
    fits = [
        frechet_at_infinity(
            randn(4000, dim, seed=seed),
            exact,
            sizes=[200, 300, 500, 1000, 2000, 4000],
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in range(30)
    ]
    kappa = dim + dim * (dim + 1) / 4
    for name, expected, order in (("value", 0.0, 0.0), ("slope", kappa, kappa * dim / 200)):
        values = torch.tensor([getattr(fit, name) for fit in fits])
        error = values.std().item() / math.sqrt(len(values))
        assert values.mean().item() == pytest.approx(expected, abs=4 * error + order)
    assert fits[0].sizes.tolist() == [200, 300, 500, 1000, 2000, 4000]
    # Less is left than half of the bias at the full number.
    assert abs(sum(fit.value for fit in fits) / 30) < 0.5 * kappa / 4000


def test_a_line_in_the_inverse_number_is_fitted_exactly():
    sizes = [5, 7, 20, 100]
    fit = fit_sample_size(sizes, [2.0 + 3.0 / n for n in sizes])
    assert (fit.value, fit.slope) == (pytest.approx(2), pytest.approx(3))


def test_the_default_sizes_reach_all_samples():
    fit = frechet_at_infinity(randn(1500, 2), randn(100, 2, seed=1))
    assert len(fit.sizes) == 15
    assert (fit.sizes[0], fit.sizes[-1]) == (150, 1500)
    assert fit.distances[-1].item() == pytest.approx(
        frechet_distance(randn(1500, 2), randn(100, 2, seed=1))
    )


def test_bad_input():
    with pytest.raises(ValueError, match=r"^fit_sample_size: .* 1 distances"):
        fit_sample_size([1, 2], [1.0])
    with pytest.raises(ValueError, match="two different"):
        fit_sample_size([2, 2], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"^frechet_at_infinity: sizes are \[5, 11\]"):
        frechet_at_infinity(randn(10, 2), randn(10, 2), sizes=[5, 11])
