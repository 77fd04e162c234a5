"""The energy distance."""

import math

import pytest
import torch

from gencore.metrics import energy_distance


def test_two_normals_on_the_line():
    """E|x − y| of N(0, v) is √(2v/π): 2E|x − y| − E|x − x'| − E|y − y'| for variances 1 and 9."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4000, 1, generator=generator)
    expected = (2 * math.sqrt(2 * 10) - math.sqrt(2 * 2) - math.sqrt(2 * 18)) / math.sqrt(math.pi)
    assert energy_distance(a, 3 * b) == pytest.approx(expected, abs=0.05)


def test_it_has_no_bias_between_samples_of_one_distribution():
    generator = torch.Generator().manual_seed(1)
    values = torch.tensor([
        energy_distance(*torch.randn(2, 10, 2, generator=generator), batch_size=3)
        for _ in range(400)
    ])  # fmt: skip
    assert abs(values.mean()) < 4 * values.std() / 20


def test_bad_input():
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(3, 2\); expected .* two or more in each"):
        energy_distance(torch.zeros(1, 2), torch.zeros(3, 2))
