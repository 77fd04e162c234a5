"""Uniform and variational dequantisation: bounds of probabilities that are known."""

import math

import pytest
import torch
from torch import nn

from gencore.metrics import bits_per_dim
from gencore.nn import Transform, UniformDequantization, VariationalDequantization

NORMAL = torch.distributions.Normal(torch.tensor(3.2, dtype=torch.float64), 0.7)
LOG_P = (NORMAL.cdf(torch.tensor(4.0)) - NORMAL.cdf(torch.tensor(3.0))).log().item()
UNIFORM_BOUND = -0.73913


def log_density(y, bins=256):
    """Of y = x / bins [N, 1] for x of the normal density."""
    return NORMAL.log_prob(bins * y.double()).squeeze(1) + math.log(bins)


def threes(count):
    return torch.full((count, 1), 3, dtype=torch.uint8)


class Posterior(Transform):
    """The noise q(u | x) ∝ p(x + u): ε = Φ⁻¹ of u's distribution function."""

    def __init__(self):
        super().__init__()
        # A parameter, for its dtype to be that of the noise.
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def _ends(self, context):
        levels = self.one * (256 * (context + 1) - 1) / 2
        low = NORMAL.cdf(levels)
        return levels, low, NORMAL.cdf(levels + 1) - low

    def forward(self, x, context=None):
        raise NotImplementedError

    def inverse(self, z, context=None):
        levels, low, mass = self._ends(context)
        standard = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        u = (NORMAL.icdf(low + mass * standard.cdf(z)) - levels).clamp(1e-15, 1 - 1e-15)
        log_q_u = NORMAL.log_prob(levels + u) - mass.log()
        log_q_v = log_q_u + (u * (1 - u)).log()
        log_det = (standard.log_prob(z) - log_q_v).sum(1)
        return torch.logit(u), log_det


def test_uniform_noise_gives_its_bound():
    generator = torch.Generator().manual_seed(1)
    y, log_det = UniformDequantization()(threes(100_000), generator=generator)
    bounds = log_density(y) + log_det
    error = 4 * bounds.std().item() / math.sqrt(len(bounds))
    assert abs(bounds.mean().item() - UNIFORM_BOUND) < error + 5e-6
    assert error < 0.01 < LOG_P - UNIFORM_BOUND


def test_the_right_noise_gives_the_probability_itself():
    dequantization = VariationalDequantization(Posterior())
    y, log_det = dequantization(threes(20_000), generator=torch.Generator().manual_seed(2))
    bounds = log_density(y) + log_det
    torch.testing.assert_close(bounds, torch.full_like(bounds, LOG_P), rtol=0.0, atol=3e-5)


def test_learned_noise_is_between_uniform_noise_and_the_probability():
    """A logistic-normal q, trained on the bound alone."""
    network = nn.Linear(1, 2).double()
    nn.init.zeros_(network.weight)
    network.bias.data.copy_(torch.tensor([0.0, 0.4]))
    dequantization = VariationalDequantization(network)
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(dequantization.parameters(), lr=0.05)
    for _ in range(60):
        y, log_det = dequantization(threes(1024), generator=generator)
        optimizer.zero_grad()
        (-(log_density(y) + log_det).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        y, log_det = dequantization(threes(200_000), generator=generator)
    bounds = log_density(y) + log_det
    error = 4 * bounds.std().item() / math.sqrt(len(bounds))
    assert UNIFORM_BOUND + error < bounds.mean().item() < LOG_P + error
    # Importance weights of q: an unbiased estimate of P itself.
    weights = bounds.exp()
    error = 4 * weights.std().item() / math.sqrt(len(weights))
    assert abs(weights.mean().item() - math.exp(LOG_P)) < error


@pytest.mark.parametrize("bins", [256, 32, 2])
def test_a_constant_density_takes_the_bits_of_a_grey_level(bins):
    x = torch.randint(bins, (4, 3, 8, 8), dtype=torch.uint8)
    y, log_det = UniformDequantization(bins=bins)(x)
    torch.testing.assert_close(
        bits_per_dim(log_det, 192, bins=1), torch.full((4,), math.log2(bins))
    )
    assert torch.equal(UniformDequantization(bins=bins).inverse(y), x)


def test_the_log_determinant_holds_the_density_of_the_noise():
    """Against torch's own logistic-normal density."""
    network = nn.Linear(2, 4).double()
    nn.init.zeros_(network.weight)
    network.bias.data.copy_(torch.tensor([0.3, -0.2, 0.4, 0.5]))
    x = torch.tensor([[3, 200]], dtype=torch.uint8).expand(100, 2)
    generator = torch.Generator().manual_seed(4)
    y, log_det = VariationalDequantization(network)(x, generator=generator)
    mean, raw = network.bias.chunk(2)
    normal = torch.distributions.Normal(mean, (2 * torch.tanh(raw / 2)).exp())
    sigmoid = torch.distributions.SigmoidTransform()
    noise = torch.distributions.TransformedDistribution(normal, [sigmoid])
    log_q = noise.log_prob(256 * y - x).sum(1)
    torch.testing.assert_close(log_det, -log_q - 2 * math.log(256), rtol=1e-9, atol=1e-9)


class Shifted(nn.Module):
    """The mean and the raw log-scale of all noise are one number."""

    def __init__(self, shift, dtype):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift, dtype=dtype))

    def forward(self, x):
        return self.shift.expand(len(x), 2 * x.shape[1])


@pytest.mark.parametrize("shift", [-60.0, 60.0])
@pytest.mark.parametrize("bins", [2, 10, 100, 255, 256, 257, 65_535])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_at_the_ends_of_a_bin_stays_in_it(shift, bins, dtype):
    network = Shifted(shift, dtype)
    dequantization = VariationalDequantization(network, bins=bins)
    x = torch.arange(bins).to(torch.uint8 if bins <= 256 else torch.uint16)[None]
    y, log_det = dequantization(x)
    assert torch.equal(dequantization.inverse(y), x)
    assert y.min() >= 0
    assert y.max() < 1
    assert log_det.isfinite().all()


def test_the_bound_is_differentiable_in_the_noises_parameters():
    dequantization = VariationalDequantization(nn.Conv2d(3, 6, 3, padding=1))
    x = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    y, log_det = dequantization(x, generator=torch.Generator().manual_seed(5))
    (y.square().sum() + log_det.sum()).backward()
    for parameter in dequantization.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_the_generator_decides_the_noise():
    for module in (UniformDequantization(), VariationalDequantization(nn.Linear(2, 4))):
        x = torch.tensor([[1, 2]], dtype=torch.uint8)
        first, second = (module(x, generator=torch.Generator().manual_seed(6)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert not torch.equal(first[0], module(x)[0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"^VariationalDequantization: a context is for"):
        VariationalDequantization(nn.Linear(1, 2), nn.Linear(1, 1))
    with pytest.raises(TypeError, match=r"^VariationalDequantization: x is torch\.float32"):
        VariationalDequantization(nn.Linear(1, 2))(torch.zeros(1, 1))


@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_parts_of_a_batch_have_the_noise_of_the_whole(kind):
    torch.manual_seed(0)
    x = torch.randint(256, (5, 2, 3, 3), dtype=torch.uint8)
    network = nn.Conv2d(2, 4, 1)
    layer = UniformDequantization() if kind == "uniform" else VariationalDequantization(network)
    key = torch.tensor([7, 1])
    whole, parts = layer(x, key=key), (layer(x[:2], key=key), layer(x[2:], key=key, first=2))
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), value)
    assert not torch.equal(parts[1][0], layer(x[2:], key=key)[0])


@pytest.mark.parametrize("bins", [0, 65_537])
def test_numbers_of_bins(bins):
    with pytest.raises(ValueError, match=f"bins is {bins}"):
        UniformDequantization(bins=bins)
    with pytest.raises(ValueError, match=f"bins is {bins}"):
        VariationalDequantization(nn.Linear(1, 2), bins=bins)


def test_grey_levels_beyond_the_bins():
    dequantizations = (
        UniformDequantization(bins=3),
        VariationalDequantization(nn.Linear(1, 2), bins=3),
    )
    for dequantization in dequantizations:
        with pytest.raises(ValueError, match="has the value 3, expected less than bins = 3"):
            dequantization(threes(2))


class TestSixteenBits:
    @pytest.mark.parametrize("levels", [torch.uint16, torch.int32], ids=str)
    def test_both_go_there_and_back(self, levels):
        x = torch.randint(65_536, (4, 1, 8, 8)).to(levels)
        for layer in (
            UniformDequantization(bins=65_536),
            VariationalDequantization(nn.Conv2d(1, 2, 1), bins=65_536),
        ):
            y, log_det = layer(x)
            back = layer.inverse(y)
            assert back.dtype == torch.uint16
            assert torch.equal(back.int(), x.int())
            assert y.dtype == log_det.dtype == torch.float32

    def test_a_constant_density_takes_sixteen_bits(self):
        x = torch.randint(65_536, (5, 3))
        y, log_det = UniformDequantization(bins=65_536)(x)
        sixteen = torch.full((5,), 16.0)
        torch.testing.assert_close(bits_per_dim(log_det, 3, bins=1), sixteen)
        log_prob = torch.distributions.Uniform(0.0, 1.0).log_prob(y).sum(1)
        torch.testing.assert_close(bits_per_dim(log_prob, 3, bins=65_536), sixteen)

    def test_the_bits_are_those_of_the_levels_law(self):
        """P(x) ∝ 2x + 1, which is the exact mass of the density 2y on each bin."""
        bins, count = 65_536, 100_000
        # the square root of a uniform number has that density
        generator = torch.Generator().manual_seed(0)
        x = (torch.rand(count, 1, generator=generator).double().sqrt() * bins).long()
        y, _ = UniformDequantization(bins=bins)(x, key=torch.tensor([1, 2]))
        bits = bits_per_dim((2 * y.double()).log().sum(1), 1, bins=bins)
        exact = -((2 * x[:, 0].double() + 1) / bins**2).log2()
        gap = bits - exact
        # what Jensen's inequality costs is of the order of 1/x²: far below the Monte Carlo error
        assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(count) + 1e-5
        assert gap.std() < 0.05

    @pytest.mark.parametrize("shift", [-60.0, 60.0])
    @pytest.mark.parametrize("bins", [200, 1000, 50_000, 65_536])
    def test_noise_at_the_ends_of_a_bin_stays_in_it(self, bins, shift):
        layer = VariationalDequantization(_Constant(shift), bins=bins)
        x = torch.arange(bins)[None]
        y, log_det = layer(x)
        assert torch.equal(layer.inverse(y).long(), x)
        assert 0 <= y.min() <= y.max() < 1
        assert log_det.isfinite().all()

    def test_levels_beyond_the_bins(self):
        layer = VariationalDequantization(_Constant(0.0), bins=4096)
        with pytest.raises(ValueError, match="has the value 4096, expected less than bins = 4096"):
            layer(torch.tensor([[4096]]))
        with pytest.raises(ValueError, match="has the value -1, expected 0 or more"):
            layer(torch.tensor([[-1]]))


class _Constant(nn.Module):
    """A network of that mean of v, with the least deviation."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x):
        return torch.cat([torch.full_like(x, self.mean), torch.full_like(x, -60.0)], 1)
