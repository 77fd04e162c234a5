"""Confidence intervals: how often they hold, and the standard error they report."""

import math

import pytest
import torch

from gencore.metrics import (
    PolynomialKernel,
    block_interval,
    bootstrap_interval,
    frechet_distance,
    kernel_distance,
)
from gencore.metrics.distances.intervals import _student_quantile


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_block_intervals_hold_as_often_as_they_say():
    """Linear kernel, N(0, I) and N(δ, I): the squared distance is ‖δ‖²."""
    generator, trials, level = seeded(), 400, 0.8
    kernel = PolynomialKernel(degree=1, scale=1.0)
    held = 0
    for _ in range(trials):
        x, y = torch.randn(2, 40, 2, generator=generator)
        interval = block_interval(
            lambda a, b: kernel_distance(a, b, kernel),
            x,
            y + 1,
            num_blocks=5,
            level=level,
            generator=generator,
        )
        held += interval.low <= 2 <= interval.high
    # Five blocks of eight have skewed distances; the nominal level is missed by some 0.02.
    error = math.sqrt(level * (1 - level) / trials)
    assert held / trials == pytest.approx(level, abs=4 * error + 0.02)


def test_the_bootstrap_reports_the_standard_deviation_over_new_samples():
    generator = seeded()

    def sets():
        x, y = torch.randn(2, 400, 2, generator=generator)
        return x, y + 1

    draws = torch.tensor([frechet_distance(*sets()) for _ in range(400)])
    errors = [bootstrap_interval(frechet_distance, *sets(), generator=generator) for _ in range(10)]
    mean = sum(interval.standard_error for interval in errors) / 10
    # Of 400 draws and of ten times 100 resamples: 3.5 % and 2.2 % of the standard deviation.
    assert mean == pytest.approx(draws.std().item(), rel=4 * math.hypot(0.035, 0.022))
    value, error, low, high = errors[0]
    assert high - value == pytest.approx(1.959964 * error, rel=1e-5)
    assert value - low == pytest.approx(high - value)


def test_the_value_of_blocks_is_the_mean_over_them():
    x, y = torch.randn(2, 33, 3, generator=seeded())
    seen = []

    def distance(a, b):
        assert a.shape == b.shape == (8, 3)
        seen.append((a, b))
        return float(len(seen))

    interval = block_interval(distance, x, y, num_blocks=4, generator=seeded(1))
    assert interval.value == 2.5
    assert interval.standard_error == pytest.approx(math.sqrt(5 / 3 / 4))
    # No element is used twice.
    assert len(torch.cat([a for a, _ in seen]).unique(dim=0)) == 32


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 99])
def test_students_quantile(freedom):
    stats = pytest.importorskip("scipy.stats")
    for probability in (0.9, 0.975, 0.995):
        exact = stats.t.ppf(probability, freedom)
        tolerance = {3: 0.02, 4: 0.006}.get(freedom, 1e-3)
        assert _student_quantile(probability, freedom) == pytest.approx(exact, rel=tolerance)


def test_bad_input():
    x = torch.zeros(10, 2)
    with pytest.raises(ValueError, match=r"^block_interval: num_blocks = 6"):
        block_interval(frechet_distance, x, x, num_blocks=6)
    with pytest.raises(ValueError, match=r"^bootstrap_interval: level = 1\.0"):
        bootstrap_interval(frechet_distance, x, x, level=1.0)
    with pytest.raises(ValueError, match=r"^bootstrap_interval: num_resamples = 1"):
        bootstrap_interval(frechet_distance, x, x, num_resamples=1)
