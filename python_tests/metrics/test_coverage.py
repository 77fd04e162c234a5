"""Precision and recall, density and coverage, and modes."""

import math

import pytest
import torch

from gencore.metrics import (
    density_coverage,
    mode_coverage,
    mode_coverage_of_counts,
    precision_recall,
)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_equal_sets_and_distant_ones():
    x = randn(60, 5)
    assert precision_recall(x, x) == (1, 1)
    # Each ball holds its centre and its k nearest.
    assert density_coverage(x, x, k=4) == (pytest.approx(5 / 4), 1)
    assert precision_recall(x, x + 100) == (0, 0)
    assert density_coverage(x, x + 100) == (0, 0)


def test_half_the_modes_have_full_precision_and_half_the_recall():
    modes = torch.tensor([0.0, 1000.0]).repeat_interleave(200)[:, None]
    real = modes + randn(400, 2)
    generated = real[:200]
    assert precision_recall(real, generated) == (1, 0.5)
    assert precision_recall(generated, real) == (0.5, 1)
    assert density_coverage(real, generated).coverage == 0.5


def test_an_outlier_moves_recall_and_not_coverage():
    """One generated image far away makes a ball around everything real."""
    real = randn(300, 2)
    generated = torch.cat([randn(100, 2, seed=1) + 100, torch.tensor([[-100.0, -100.0]])])
    assert precision_recall(real, generated).recall == 1
    assert density_coverage(real, generated).coverage == 0


@pytest.mark.parametrize(("num_real", "num_generated", "k"), [(40, 40, 3), (40, 15, 5)])
def test_expectations_for_equal_distributions(num_real, num_generated, k):
    """E density = 1; E coverage = 1 − Π (N − j)/(N + M − j): which of N + M − 1 come first."""
    results = torch.tensor(
        [
            density_coverage(
                randn(num_real, 3, seed=2 * seed), randn(num_generated, 3, seed=2 * seed + 1), k
            )
            for seed in range(300)
        ],
        dtype=torch.float64,
    )
    missed = math.prod((num_real - j) / (num_real + num_generated - j) for j in range(1, k + 1))
    error = 4.5 * results.std(0) / math.sqrt(len(results))
    expected = torch.tensor([1.0, 1 - missed], dtype=torch.float64)
    assert ((results.mean(0) - expected).abs() < error).all()


def test_modes_of_a_ring():
    angles = torch.arange(8) * (2 * math.pi / 8)
    modes = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    even = modes.repeat(50, 1) + 0.01 * randn(400, 2).float()
    whole = mode_coverage(even, modes, 0.06)
    assert (whole.num_modes, whole.high_quality) == (8, 1)
    assert whole.kl_to_uniform == pytest.approx(0, abs=1e-12)
    collapsed = mode_coverage(even[::8], modes, 0.06)
    assert (collapsed.num_modes, collapsed.kl_to_uniform) == (1, pytest.approx(math.log(8)))
    # Two modes in the ratio 3 to 1, and as many samples between the modes.
    some = torch.cat([modes[:1].repeat(3, 1), modes[1:2], torch.zeros(4, 2)])
    result = mode_coverage(some, modes, 0.06)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert result[:2] == (2, 0.5)
    assert result.kl_to_uniform == pytest.approx(math.log(8) - entropy)
    assert mode_coverage_of_counts(result.counts, 8)[:3] == result[:3]
    assert mode_coverage_of_counts(result.counts).high_quality == 1
    assert mode_coverage(torch.zeros(3, 2), modes, 0.06)[:3] == (0, 0, math.inf)


def test_three_standard_deviations_of_the_plane_hold_all_but_one_in_ninety():
    samples = randn(20_000, 2)
    result = mode_coverage(samples, torch.zeros(1, 2), 3.0)
    expected = 1 - math.exp(-4.5)
    error = math.sqrt(expected * (1 - expected) / 20_000)
    assert result.high_quality == pytest.approx(expected, abs=4 * error)


def test_bad_input():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"^precision_recall: k = 3, expected 1 to 2"):
        precision_recall(x, x)
    with pytest.raises(ValueError, match=r"^density_coverage: k = 5"):
        density_coverage(x, x)
    with pytest.raises(ValueError, match=r"^mode_coverage: radius = 0"):
        mode_coverage(x, x, 0)
    with pytest.raises(ValueError, match=r"^mode_coverage: features have shape"):
        mode_coverage(x, torch.zeros(2, 3), 1)
    with pytest.raises(ValueError, match=r"^mode_coverage_of_counts: num_samples = 2"):
        mode_coverage_of_counts(torch.tensor([1, 2]), 2)
    with pytest.raises(ValueError, match=r"^mode_coverage_of_counts: counts are torch\.float32"):
        mode_coverage_of_counts(torch.ones(2))
    with pytest.raises(ValueError, match=r"^mode_coverage: samples have shape"):
        mode_coverage(x[:0], x, 1)
