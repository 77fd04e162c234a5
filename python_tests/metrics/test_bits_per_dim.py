"""Bits per dimension: densities whose code length is known."""

import math

import pytest
import torch

from gencore.metrics import bits_per_dim
from gencore.ops import dequantize, gaussian_nll

INTERVALS = ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (0.0, 256.0), (-3.0, 5.0))


@pytest.mark.parametrize(("low", "high"), INTERVALS)
@pytest.mark.parametrize(("bins", "bits"), [(256, 8.0), (32, 5.0), (2, 1.0)])
def test_a_constant_density_takes_the_bits_of_a_grey_level(low, high, bins, bits):
    for dims in (1, 12, 3072):
        log_prob = torch.full((3,), -dims * math.log(high - low), dtype=torch.float64)
        result = bits_per_dim(log_prob, dims, bins=bins, low=low, high=high)
        torch.testing.assert_close(result, torch.full_like(result, bits), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_rescaling_the_data_does_not_change_the_value(low, high):
    """A Gaussian of y in [0, 1) and the one it becomes under low + (high - low) y."""
    x = torch.randint(256, (5, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    y, _ = dequantize(x, key=torch.tensor([1, 2]), dtype=torch.float64)
    mean, std = torch.tensor([0.4, 0.2], dtype=torch.float64)
    scaled = torch.distributions.Normal(low + (high - low) * mean, (high - low) * std)
    log_prob = torch.distributions.Normal(mean, std).log_prob(y).sum(1)
    scaled_log_prob = scaled.log_prob(low + (high - low) * y).sum(1)
    result = bits_per_dim(scaled_log_prob, 7, low=low, high=high)
    torch.testing.assert_close(result, bits_per_dim(log_prob, 7), rtol=1e-12, atol=1e-12)


def test_a_log_determinant_that_counts_the_bins_is_given_with_one_bin():
    x = torch.randint(256, (5, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    y, log_det = dequantize(x, key=torch.tensor([1, 2]), dtype=torch.float64)
    bound = -gaussian_nll(y, log_det)
    log_prob = -gaussian_nll(y, torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(bits_per_dim(bound, 7, bins=1), bits_per_dim(log_prob, 7))


def test_is_an_upper_bound_of_the_code_length_of_a_gaussians_integers():
    """N(3.2, 0.7) at the grey level 3: -0.73913 nats with uniform noise, -0.72175 exactly."""
    normal = torch.distributions.Normal(torch.tensor(3.2, dtype=torch.float64), 0.7)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000  # midpoint rule
    bits = bits_per_dim(normal.log_prob(3 + u), 1, low=0.0, high=256.0).mean()
    exact = -(normal.cdf(torch.tensor(4.0)) - normal.cdf(torch.tensor(3.0))).log2()
    assert -bits.item() * math.log(2) == pytest.approx(-0.73913, abs=5e-6)
    assert -exact.item() * math.log(2) == pytest.approx(-0.72175, abs=5e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_dims": 0}, {"bins": 0}, {"low": 1.0}, {"high": math.inf}, {"low": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match=r"^bits_per_dim: "):
        bits_per_dim(**{"log_prob": torch.zeros(1), "num_dims": 2, **wrong})
