"""Metrics as games over classes of functions, and how a critic is held to its class."""

import math

import pytest
import torch
from torch import nn

from gencore.nn import MLP, clip_weights
from gencore.nn.parametrized import spectral_norm
from gencore.objectives import (
    FDivergenceGame,
    HingeGame,
    LogisticGame,
    WassersteinGame,
    gradient_penalty,
)

# Symbols at places on a line; every twentieth of the mass is a point of a batch.
PLACES = torch.tensor([0.0, 0.5, 2.0, 2.5], dtype=torch.float64)
P = torch.tensor([0.5, 0.25, 0.2, 0.05], dtype=torch.float64)
Q = torch.tensor([0.1, 0.25, 0.35, 0.3], dtype=torch.float64)
DATA, SAMPLES = (torch.arange(4).repeat_interleave((20 * law).round().long()) for law in (P, Q))
M = (P + Q) / 2


def kl(p, q):
    return (p * (p / q).log()).sum()


TV = (P - Q).abs().sum() / 2
JS = (kl(P, M) + kl(Q, M)) / 2
W1 = ((P - Q).cumsum(0)[:-1].abs() * PLACES.diff()).sum()


def bounded(free):
    return free.clamp(-1, 1)


def lipschitz(free):
    """Slopes in [−1, 1] from one place to the next."""
    steps = free[1:].clamp(-1, 1) * PLACES.diff()
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])


def anything(free):
    return free


@pytest.mark.parametrize(
    ("game", "functions", "metric"),
    [
        (WassersteinGame(), bounded, 2 * TV),
        (HingeGame(), anything, 2 * TV - 2),
        (WassersteinGame(), lipschitz, W1),
        (LogisticGame(), anything, 2 * JS - 2 * math.log(2)),
        (FDivergenceGame("kl"), anything, kl(P, Q)),
        (FDivergenceGame("reverse-kl"), anything, kl(Q, P)),
    ],
    ids=["TV", "TV by hinges", "W1", "JS", "KL", "reverse KL"],
)
def test_the_class_of_functions_makes_the_metric(game, functions, metric):
    """−min L_D over a class, by descent in tables of values or slopes."""
    free = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], 0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.985)
    values = []
    for _ in range(500):
        optimizer.zero_grad()
        table = functions(free)
        loss = game.discriminator_loss(table[DATA], table[SAMPLES])
        loss.backward()
        optimizer.step()
        schedule.step()
        values.append(-loss.item())
    assert max(values) <= metric + 1e-9
    assert values[-1] == pytest.approx(metric.item(), abs=1e-3)


class TestPoints:
    """δ_0 and δ_a, with linear critics wx."""

    A = 3.0

    def value(self, w):
        at_a, at_0 = (w * torch.tensor([x], dtype=torch.float64) for x in (self.A, 0.0))
        return -WassersteinGame().discriminator_loss(at_a, at_0)

    @pytest.mark.parametrize("w", [-1.0, 0.3, 1.0])
    def test_their_distance_is_the_best_of_slopes_up_to_one(self, w):
        assert self.value(1.0) == self.A
        assert self.value(w) <= self.A

    def test_clipped_weights_measure_their_bound_times_the_distance(self):
        critic = nn.Linear(1, 1, bias=False).double()
        nn.init.zeros_(critic.weight)
        optimizer = torch.optim.RMSprop(critic.parameters(), 1e-2)
        points = torch.tensor([[self.A], [0.0]], dtype=torch.float64)
        for _ in range(20):
            optimizer.zero_grad()
            loss = WassersteinGame().discriminator_loss(*critic(points))
            loss.backward()
            optimizer.step()
            clip_weights(critic, 0.05)
        torch.testing.assert_close(
            -WassersteinGame().discriminator_loss(*critic(points)),
            torch.tensor(0.05 * self.A).double(),
        )

    @pytest.mark.parametrize("one_sided", [False, True])
    def test_a_penalty_lets_the_slope_exceed_one(self, one_sided):
        """−aw + λ(w − 1)² is least at w = 1 + a/2λ, which is above 1 for every λ."""
        weight = 10.0
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        real = torch.full((4, 1), self.A, dtype=torch.float64)
        optimizer = torch.optim.SGD([w], 0.04)
        for _ in range(100):
            optimizer.zero_grad()
            penalty = gradient_penalty(
                lambda x: x @ w, real, torch.zeros_like(real), weight=weight, one_sided=one_sided
            )
            (penalty - self.value(w)).backward()
            optimizer.step()
        assert w.item() == pytest.approx(1 + self.A / (2 * weight))


class TestParallelLines:
    """Uniform laws on {0} × [0, 1] and {θ} × [0, 1]."""

    HEIGHTS = (torch.arange(64, dtype=torch.float64) + 0.5) / 64

    def lines(self, theta):
        return (
            torch.stack([torch.full_like(self.HEIGHTS, x), self.HEIGHTS], 1) for x in (0.0, theta)
        )

    @pytest.mark.parametrize("theta", [-0.7, 0.01, 2.0])
    def test_a_critic_of_norm_one_finds_their_distance(self, theta):
        """|θ| from below by the critic, and from above by the coupling that keeps the heights."""
        torch.manual_seed(0)
        real, fake = self.lines(theta)
        critic = spectral_norm(nn.Linear(2, 1).double(), n_power_iterations=5)
        optimizer = torch.optim.Adam(critic.parameters(), 0.05)
        for _ in range(200):
            optimizer.zero_grad()
            loss = WassersteinGame().discriminator_loss(critic(real), critic(fake))
            loss.backward()
            optimizer.step()
        coupled = (real - fake).norm(dim=1).mean()
        assert coupled.item() == pytest.approx(abs(theta))
        assert -loss <= coupled + 1e-12
        assert -loss.item() == pytest.approx(abs(theta), rel=1e-3)

    @pytest.mark.parametrize("theta", [-0.7, 0.01, 2.0])
    def test_their_jensen_shannon_divergence_is_flat(self, theta):
        """ln 2 wherever the line is: a classifier by x₁ has no loss in the limit."""
        real, fake = self.lines(theta)
        for steepness in (1e3, 1e5):
            scores = [(theta / 2 - x[:, 0]) * math.copysign(steepness, theta) for x in (real, fake)]
            loss = LogisticGame().discriminator_loss(*scores)
        js = (2 * math.log(2) - loss.item()) / 2
        assert js == pytest.approx(math.log(2))


def test_gaussians_of_equal_variance_are_as_far_as_their_means():
    """The critic ±x from below, the coupling of equal quantiles from above."""
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(999) + 0.5).double() / 999)
    x, y = 0.4 + 1.5 * quantiles, -0.8 + 1.5 * quantiles
    assert -WassersteinGame().discriminator_loss(x, y).item() == pytest.approx(1.2)
    assert (x - y).abs().mean().item() == pytest.approx(1.2)


class TestSpectralNorm:
    @pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 4, 3)], ids=["linear", "conv"])
    def test_it_divides_by_the_largest_singular_value(self, layer):
        torch.manual_seed(0)
        nn.init.normal_(layer.weight)
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        before = layer.weight.detach().clone()
        spectral_norm(layer, n_power_iterations=50)
        torch.testing.assert_close(
            before / layer.weight, largest.expand_as(before), rtol=1e-4, atol=0
        )

    def test_slopes_of_a_network_are_at_most_one(self):
        torch.manual_seed(0)
        layers = [nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 1)]
        layers = [spectral_norm(layer.double(), n_power_iterations=50) for layer in layers]
        network = nn.Sequential(
            layers[0], nn.ReLU(), layers[1], nn.LeakyReLU(0.2), layers[2]
        ).eval()
        x, y = torch.randn(2, 500, 3, dtype=torch.float64)
        slopes = (network(x) - network(y)).abs().squeeze(1) / (x - y).norm(dim=1)
        assert slopes.max() <= 1 + 1e-6

    def test_a_multilayer_perceptron_may_have_it(self):
        """Its fused operator leaves such layers alone."""
        torch.manual_seed(0)
        network = MLP(3, (8,), 1, activation="relu", zero_last=False)
        for i in (0, 2):
            spectral_norm(network.layers[i], n_power_iterations=50)
        network.eval()
        x, y = torch.randn(2, 100, 3)
        slopes = (network(x) - network(y)).abs().squeeze(1) / (x - y).norm(dim=1)
        assert slopes.max() <= 1 + 1e-5


class TestClipping:
    def test_all_parameters_come_to_the_box(self):
        layer = nn.Linear(2, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, -0.04]]))
            layer.bias.fill_(-3)
        clip_weights(layer, 0.1)
        assert layer.weight.tolist() == [[pytest.approx(0.1), pytest.approx(-0.04)]]
        assert layer.bias.item() == pytest.approx(-0.1)
        assert layer.weight.requires_grad

    @pytest.mark.parametrize("bound", [0.0, -1.0, math.inf])
    def test_wrong_bounds_are_named(self, bound):
        with pytest.raises(ValueError, match="clip_weights: bound"):
            clip_weights(nn.Linear(1, 1), bound)
