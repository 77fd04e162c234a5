"""Normal latents without tails: their moments, splits and limits."""

import math

import pytest
import torch

from gencore.models import truncated_normal
from gencore.ops.random import philox_uniform


@pytest.mark.parametrize("bound", [0.3, 1.0, 2.5, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_truncated_latents_have_their_moments(bound, dtype):
    """Mean 0 and variance 1 − 2cϕ(c)/(2Φ(c) − 1), of 200,000 draws."""
    z = truncated_normal(100_000, 2, bound, key=torch.tensor([1, 0]), dtype=dtype)
    assert z.dtype == dtype
    assert z.abs().max() <= bound
    assert z.isfinite().all()
    variance = 1.0
    if bound < math.inf:
        density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
        variance -= 2 * bound * density / math.erf(bound / math.sqrt(2))
    assert abs(z.mean().item()) < 4 * (variance / z.numel()) ** 0.5
    fourth = z.square().var().item()
    assert abs(z.square().mean().item() - variance) < 4 * (fourth / z.numel()) ** 0.5


def test_they_are_quantiles_of_uniform_numbers():
    key = torch.tensor([3, 0])
    z = truncated_normal(50, 3, 1.5, key=key, dtype=torch.float64)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    ends = normal.cdf(torch.tensor([-1.5, 1.5], dtype=torch.float64))
    uniform = philox_uniform((50, 3), key, dtype=torch.float64)
    expected = normal.icdf(ends[0] + uniform * (ends[1] - ends[0]))
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-6)


def test_draws_in_any_split():
    key = torch.tensor([3, 0])
    whole = truncated_normal(7, 3, 1.0, key=key)
    parts = [truncated_normal(3, 3, 1.0, key=key), truncated_normal(4, 3, 1.0, key=key, first=3)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(truncated_normal(7, 3, 1.0), whole)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="bound is 0; expected a positive number"):
        truncated_normal(2, 3, 0)
    with pytest.raises(ValueError, match="size is 0"):
        truncated_normal(2, 0, 1.0)
    with pytest.raises(ValueError, match="num is -1"):
        truncated_normal(-1, 2, 1.0)
