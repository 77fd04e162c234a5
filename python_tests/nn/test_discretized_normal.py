"""A normal distribution cut into bins."""

import pytest
import torch
from torch.distributions import Normal

from gencore.nn.likelihoods.discretized_normal import discretized_normal_log_prob


def test_it_is_the_mass_of_each_bin_and_sums_to_one() -> None:
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for mean, std in ((0.1, 0.3), (-1.4, 0.2), (0.9, 5.0)):
        normal = Normal(torch.tensor(mean, dtype=torch.float64), std)
        edges = (x[1:] + x[:-1]) / 2
        cdf = torch.cat([torch.zeros(1), normal.cdf(edges), torch.ones(1)])
        found = discretized_normal_log_prob(
            x, torch.full((9,), mean), torch.tensor(std, dtype=torch.float64), bins=9
        ).exp()
        torch.testing.assert_close(found, cdf.diff(), atol=1e-7, rtol=1e-6)
        assert found.sum().item() == pytest.approx(1, abs=1e-12)


def test_far_tails_and_wide_bins_keep_their_digits_and_gradients() -> None:
    """Of a bin in a tail at distance a log P is about −a²/2σ² − log(√2π a/σ), its near edge's."""
    mean = torch.tensor([-1.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    std = torch.tensor(1e-3, dtype=torch.float64)
    x = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    x = ((x + 1) * 127.5).round() / 127.5 - 1
    found = discretized_normal_log_prob(x, mean, std)
    z = (2 - 1 / 255) / 1e-3
    tail = -0.5 * z**2 - torch.tensor(z * (2 * torch.pi) ** 0.5).log().item()
    assert found[:2].tolist() == pytest.approx([tail, tail], rel=1e-9)
    found.sum().backward()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    assert mean.grad[:2].tolist() == pytest.approx([z / 1e-3, -z / 1e-3], rel=1e-3)


def test_gradients() -> None:
    mean = torch.tensor([0.1, -0.7, 0.9, -1.5], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([0.3, 0.1, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.0, -1.0, 1.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m, s: discretized_normal_log_prob(x, m, s, bins=5), (mean, std)
    )


def test_two_bins_are_the_least() -> None:
    with pytest.raises(ValueError, match="bins"):
        discretized_normal_log_prob(torch.zeros(1), torch.zeros(1), torch.ones(1), bins=1)
