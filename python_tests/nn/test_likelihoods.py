"""Likelihoods of discrete pixels: sums over images, conditionals, draws, expectations, errors."""

import math

import pytest
import torch

from gencore.nn import (
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    DrawSpec,
    QuantizedLogistic,
)

# (likelihood, channels): few enough levels for every pixel to be enumerated.
CASES = {
    "categorical": (lambda: Categorical(4), 3),
    "logistic": (lambda: DiscretizedLogistic(5), 2),
    "logistic, a scale a channel": (lambda: DiscretizedLogistic(5, "channel", channels=2), 2),
    "mixture": (lambda: DiscretizedLogisticMixture(5, 3), 3),
    "mixture, not coupled": (lambda: DiscretizedLogisticMixture(5, 3, coupled=False), 2),
    "mixture, one channel": (lambda: DiscretizedLogisticMixture(9, 4), 1),
    "bins": (lambda: QuantizedLogistic(6, 3, channels=2), 2),
}


def case(name, device):
    """The likelihood, random parameters of one pixel, and all K values of a pixel, [K, C, 1, 1]."""
    make, channels = CASES[name]
    generator = torch.Generator().manual_seed(3)
    likelihood = make().to(device)
    for parameter in likelihood.parameters():
        parameter.data = torch.linspace(-0.8, 0.4, parameter.numel(), device=device)
    values = torch.arange(likelihood.levels)
    if isinstance(likelihood, QuantizedLogistic):
        values = values[:: likelihood.levels // likelihood.bins]
    grid = torch.cartesian_prod(*[values] * channels).view(-1, channels, 1, 1).to(device)
    number = likelihood.num_parameters(channels)
    theta = torch.randn(1, number, 1, 1, generator=generator, dtype=torch.float64).to(device)
    return likelihood, theta, grid


def joint(likelihood, theta, grid):
    """The product of the conditionals, of every row of the grid."""
    theta = theta.expand(len(grid), -1, 1, 1)
    product = torch.ones(len(grid), dtype=theta.dtype, device=theta.device)
    for channel in range(grid.shape[1]):
        x = grid.clone()
        x[:, channel:] = -123  # which it must not read
        conditional = likelihood.probabilities(theta, x, channel)
        assert conditional.shape == (len(grid), likelihood.levels, 1, 1)
        product = product * conditional.gather(1, grid[:, channel : channel + 1]).flatten()
    return product


@pytest.mark.parametrize("name", CASES)
class TestLikelihoods:
    def test_sums_to_one_over_all_pixels(self, name, device):
        likelihood, theta, grid = case(name, device)
        log_prob = likelihood.log_prob(theta.expand(len(grid), -1, 1, 1), grid)
        assert log_prob.shape == (len(grid), 1, 1)
        assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-12)

    def test_is_the_product_of_its_conditionals(self, name, device):
        likelihood, theta, grid = case(name, device)
        log_prob = likelihood.log_prob(theta.expand(len(grid), -1, 1, 1), grid)
        product = joint(likelihood, theta, grid)
        torch.testing.assert_close(product, log_prob.exp().flatten(), rtol=1e-10, atol=1e-15)

    def test_conditionals_sum_to_one_in_float32(self, name, device):
        likelihood, _, grid = case(name, device)
        generator = torch.Generator().manual_seed(4)
        channels = grid.shape[1]
        size = (len(grid), likelihood.num_parameters(channels), 3, 2)
        theta = (3 * torch.randn(size, generator=generator)).to(device)
        x = grid.expand(-1, -1, 3, 2)
        for channel in range(channels):
            found = likelihood.probabilities(theta, x, channel)
            assert found.dtype == torch.float32
            total = found.double().sum(1)
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)

    def test_draws_have_the_probabilities(self, name, device):
        likelihood, theta, grid = case(name, device)
        count, channels = 200_000, grid.shape[1]
        generator = torch.Generator().manual_seed(5)
        size = (count, likelihood.num_uniforms(channels), 1, 1)
        uniforms = torch.rand(size, generator=generator).to(device)
        theta_of_all = theta.float().expand(count, -1, 1, 1)
        x = torch.full((count, channels, 1, 1), -123, device=device)
        for channel in range(channels):
            drawn = likelihood.draw(theta_of_all, uniforms, channel, x)
            assert drawn.dtype == torch.int64
            x[:, channel] = drawn
        place = torch.zeros(count, dtype=torch.int64, device=device)
        key = torch.zeros(len(grid), dtype=torch.int64, device=device)
        for channel in range(channels):
            place = place * likelihood.levels + x[:, channel].flatten()
            key = key * likelihood.levels + grid[:, channel].flatten()
        assert torch.isin(place, key).all()
        frequency = torch.bincount(place, minlength=int(key.max()) + 1)[key].double() / count
        expected = joint(likelihood, theta, grid)
        # Pearson's statistic of the cells that are expected to have ten draws, and the others' sum.
        large = expected * count >= 10
        observed, wanted = frequency[large] * count, expected[large] * count
        rest = ((1 - frequency[large].sum()) * count, (1 - expected[large].sum()) * count)
        statistic = ((observed - wanted).square() / wanted).sum()
        degrees = int(large.sum()) - 1
        if rest[1] >= 10:
            statistic, degrees = statistic + (rest[0] - rest[1]) ** 2 / rest[1], degrees + 1
        # The mean of χ² and four of its standard deviations.
        assert statistic.item() < degrees + 4 * math.sqrt(2 * degrees) + 4

    def test_mean_is_the_expectation(self, name, device):
        likelihood, theta, grid = case(name, device)
        expected = (joint(likelihood, theta, grid)[:, None] * grid.flatten(1)).sum(0)
        found = likelihood.mean(theta, grid.shape[1])
        assert found.shape == (1, grid.shape[1], 1, 1)
        # A coupled channel's is approximate where the ends of the range cut off much.
        coupled = name == "mixture"
        tolerance = {"rtol": 0.0, "atol": 0.1} if coupled else {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(found.flatten(), expected, **tolerance)

    def test_takes_half_types_and_bytes(self, name, device):
        likelihood, theta, grid = case(name, device)
        x, half = grid.to(torch.uint8), theta.bfloat16().expand(len(grid), -1, 1, 1)
        found = likelihood.log_prob(half, x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, likelihood.log_prob(half.float(), grid))
        channels = grid.shape[1]
        assert likelihood.probabilities(half, x, channels - 1).dtype == torch.float32
        assert likelihood.mean(half, channels).dtype == torch.float32


def test_a_coupled_mean_is_exact_away_from_the_ends(device):
    likelihood = DiscretizedLogisticMixture(256, 2)
    theta = torch.tensor([0.3, -0.2, 0.1, -0.2, 0.05, -0.1, -4.5, -5.0, -4.0, -4.5, 0.5, -0.4])
    theta = theta.double().view(1, 12, 1, 1).to(device)
    grid = torch.cartesian_prod(*[torch.arange(256)] * 2).view(-1, 2, 1, 1).to(device)
    found = likelihood.log_prob(theta.expand(len(grid), -1, 1, 1), grid).exp().flatten()
    expected = (found[:, None] * grid.flatten(1)).sum(0)
    torch.testing.assert_close(likelihood.mean(theta, 2).flatten(), expected, rtol=1e-6, atol=0)


def test_categorical_draws_by_hand():
    theta = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.25, 0.25, 0.25, 0.25]).log()
    uniforms = torch.tensor(
        [[0.0, 0.05, 0.15, 0.35, 0.65, 0.9999999], [0.0, 0.2, 0.3, 0.6, 0.8, 0.99]]
    )
    x = torch.zeros(1, 2, 1, 6, dtype=torch.int64)
    likelihood, theta = Categorical(4), theta.view(1, 8, 1, 1).expand(1, 8, 1, 6)
    drawn = [likelihood.draw(theta, uniforms.view(1, 2, 1, 6), c, x).flatten() for c in (0, 1)]
    assert drawn[0].tolist() == [0, 0, 1, 2, 3, 3]
    assert drawn[1].tolist() == [0, 0, 1, 2, 3, 3]


def test_logistic_draws_by_hand():
    """μ = 100 and s = 10, in levels: u = 1/2 is the mean, u = σ(1) a scale above it."""
    uniform = [0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2.04)), 0.0, 1 - 2**-24, 1e-30]
    theta = torch.tensor([100 / 127.5 - 1, math.log(10 / 127.5)]).view(1, 2, 1, 1)
    uniforms = torch.tensor(uniform).view(1, 1, 1, 6)
    x = torch.zeros(1, 1, 1, 6, dtype=torch.int64)
    drawn = DiscretizedLogistic().draw(theta.expand(1, 2, 1, 6), uniforms, 0, x)
    assert drawn.flatten().tolist() == [100, 110, 80, 0, 255, 0]
    bins = QuantizedLogistic(bins=16, channels=1)
    bins.log_scale.data.fill_(math.log(10 / 127.5))
    drawn = bins.draw(theta[:, :1].expand(1, 1, 1, 6), uniforms, 0, x)
    assert drawn.flatten().tolist() == [96, 96, 64, 0, 240, 0]  # the first levels of the bins


def test_mixture_draws_by_hand():
    """Two components of weight 1/4 and 3/4; the second channel's mean follows the first."""
    k = 0.9
    theta = [math.log(0.25), math.log(0.75), -0.5, 0.5, 0.1, -0.1, -3, -3, -4, -4, k, -k]
    theta = torch.tensor(theta).view(1, 12, 1, 1).expand(1, 12, 1, 3)
    uniforms = torch.tensor([[0.2, 0.25, 0.9], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]).view(1, 3, 1, 3)
    x = torch.tensor([[64, 191, 191], [0, 0, 0]]).view(1, 2, 1, 3)
    likelihood = DiscretizedLogisticMixture(256, 2)
    assert likelihood.draw(theta, uniforms, 0, x).flatten().tolist() == [64, 191, 191]
    scaled = [2 * level / 255 - 1 for level in (64, 191)]
    means = [0.1 + math.tanh(k) * scaled[0], -0.1 - math.tanh(k) * scaled[1]]
    first, second = (math.floor((mean + 1) * 127.5 + 0.5) for mean in means)
    assert likelihood.draw(theta, uniforms, 1, x).flatten().tolist() == [first, second, second]


def test_specs_say_how_to_draw():
    assert Categorical(16).spec == DrawSpec("categorical", 16)
    assert DiscretizedLogisticMixture(256, 5).spec == DrawSpec("logistic", 256, 5, True)
    assert DiscretizedLogistic().spec is None
    assert QuantizedLogistic().spec is None


def test_learned_scales_fit_the_data():
    """The maximum-likelihood scale of many draws is that of the distribution they are from."""
    likelihood = DiscretizedLogistic(256, "channel", channels=1)
    generator = torch.Generator().manual_seed(6)
    uniforms = torch.rand(1, 1, 1, 20_000, generator=generator)
    x = torch.zeros(1, 1, 1, 20_000, dtype=torch.int64)
    theta = torch.zeros(1, 1, 1, 20_000)
    likelihood.log_scale.data.fill_(-2.5)
    x[:, 0] = likelihood.draw(theta, uniforms, 0, x)
    likelihood.log_scale.data.fill_(-1.0)
    optimizer = torch.optim.LBFGS(likelihood.parameters(), line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -likelihood.log_prob(theta, x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    # Per draw, the information about log s is (3 + π²)/9 = 1.43.
    assert likelihood.log_scale.item() == pytest.approx(-2.5, abs=4 / math.sqrt(1.43 * 20_000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Categorical(1), "Categorical: levels is 1; expected an integer from 2"),
        (lambda: DiscretizedLogistic(256, "image"), "DiscretizedLogistic: scale"),
        (lambda: DiscretizedLogistic(scale="channel", channels=0), "channels is 0; expected"),
        (lambda: DiscretizedLogisticMixture(num_components=0), "num_components is 0; expected"),
        (lambda: QuantizedLogistic(bins=7), "bins is 7; expected a divisor of levels, 256"),
        (lambda: QuantizedLogistic(channels=3).num_parameters(1), "has the scales of 3 channels"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


THETA, X = torch.zeros(2, 12, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: h.log_prob(THETA[:, :9], X), r"parameters has shape \[2, 9, 4, 5\]; expected"),
        (lambda h: h.log_prob(THETA, X + 4), "x has the level 4"),
        (lambda h: h.probabilities(THETA, X, 3), "channel is 3; expected 0 to 2"),
        (lambda h: h.probabilities(THETA, X[:1], 0), r"x has shape \[1, 3, 4, 5\]"),
        (lambda h: h.draw(THETA, THETA[:, :2], 0, X), "uniforms has shape .* expected"),
        (lambda h: h.mean(THETA, 2), "for images of 2 channels"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(Categorical(4))
