"""Rate and distortion: closed forms of a scalar Gaussian source, limits, the noise of training."""

import math

import pytest
import torch
from torch import nn

from gencore.models import LossyCoder
from gencore.nn import MLP, EntropyModel, FactorizedPrior

# Bits by which uniform scalar quantisation with ideal entropy coding exceeds R(D) at high rates.
SPACE_FILLING_LOSS = 0.5 * math.log2(2 * math.pi * math.e / 12)


class NormalBins(EntropyModel):
    """The exact probabilities of the bins of N(0, s²)."""

    def __init__(self, std):
        super().__init__()
        self.normal = torch.distributions.Normal(0.0, torch.tensor(std, dtype=torch.float64))

    def log_prob(self, y):
        return (self.normal.cdf(y + 0.5) - self.normal.cdf(y - 0.5)).log()

    def probabilities(self, low, high): ...

    def support(self, tail): ...


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class Bounded(nn.Module):
    """Numbers that round to −1, 0 or 1."""

    def forward(self, x):
        return 1.49 * torch.tanh(x)


def source(num=100_000):
    """A Gaussian's quantiles: averages over them are its expectations, nearly."""
    u = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    return torch.distributions.Normal(0.0, 1.0).icdf(u).unsqueeze(1)


def rate_of(distortion):
    return 0.5 * math.log2(1 / distortion)


def linear_coder(beta, **options):
    torch.manual_seed(0)
    return LossyCoder(nn.Linear(1, 1), nn.Linear(1, 1), FactorizedPrior(1), beta=beta, **options)


def train(coder, steps=600, learning_rate=0.03):
    # A short memory, since the first gradients are a hundred times those at the end.
    optimizer = torch.optim.Adam(coder.parameters(), learning_rate, (0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = coder(torch.randn(512, 1, generator=generator), generator=generator).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return coder.eval()


def measured(coder):
    x = source().float()
    return coder.rate(x).mean().item(), coder.distortion(x).mean().item()


def test_a_uniform_quantiser_is_a_quarter_bit_above_the_bound():
    """R(D) + ½ log₂(2πe/12) at high rates, with D = Δ²/12."""
    step, x = 0.1, source()
    coder = LossyCoder(Scale(1 / step), Scale(step), NormalBins(1 / step), beta=1.0).eval()
    rate, distortion = coder.rate(x).mean().item(), coder.distortion(x).mean().item()
    assert distortion == pytest.approx(step**2 / 12, rel=1e-3)
    assert rate == pytest.approx(rate_of(distortion) + SPACE_FILLING_LOSS, abs=2e-3)
    assert pytest.approx(0.2546, abs=1e-4) == SPACE_FILLING_LOSS
    parts = coder(x)
    torch.testing.assert_close(parts.rate, coder.rate(x))
    torch.testing.assert_close(parts.distortion, coder.distortion(x))
    torch.testing.assert_close(parts.loss, coder.rate(x) + coder.distortion(x))


@pytest.mark.slow
def test_trained_coders_follow_the_bound():
    """With D' = 1/(2 β ln 2), where the slope of R(D) is −β. The tolerances: 0.03 bit for a mixture
    of three logistics that is nearly a Gaussian, and 10 % of D, along which the loss is flat. At
    low rates the cells pay for themselves, and the gap is smaller."""
    results = [measured(train(linear_coder(beta))) for beta in (2.0, 8.0, 30.0)]
    rates, distortions = zip(*results, strict=True)
    assert rates == tuple(sorted(rates))
    assert distortions == tuple(sorted(distortions, reverse=True))
    for rate, distortion in results:
        assert rate_of(distortion) < rate < rate_of(distortion) + SPACE_FILLING_LOSS + 0.03
    assert distortions[-1] == pytest.approx(1 / (2 * 30 * math.log(2)), rel=0.1)


@pytest.mark.slow
def test_where_errors_cost_nothing_nothing_is_coded():
    """β = 0: Q collapses."""
    before, _ = measured(linear_coder(0.0))
    rate, _ = measured(train(linear_coder(0.0)))
    assert before > 1
    assert 0 <= rate < 0.01


@pytest.mark.slow
def test_with_all_weight_on_the_distortion_it_is_that_of_the_best_quantiser():
    """Three levels, of which Lloyd's and Max's has 0.1902; the rate is that of its cells. The
    straight-through gradient is biased, and stops a few per cent before."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(1, 1), Bounded())
    coder = LossyCoder(
        encoder, MLP(1, (16,), 1), FactorizedPrior(1), beta=1e4, rounding="straight-through"
    )
    rate, distortion = measured(train(coder))
    assert 0.19017 <= distortion < 0.1902 * 1.1
    p = 2 * (1 - torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.612)).item())
    entropy = p * math.log2(2 / p) + (1 - p) * math.log2(1 / (1 - p))
    assert rate == pytest.approx(entropy, abs=0.1)


class TestTraining:
    x = torch.randn(6, 1, generator=torch.Generator().manual_seed(0))

    def test_noise_stands_for_rounding(self):
        """Uniform in [−½, ½), anew at each place, and the same in every part of a batch."""
        coder = LossyCoder(Scale(1.0), Scale(1.0), NormalBins(1.0), beta=1.0)
        key, x = torch.tensor([1, 2]), torch.zeros(40_000, 1, dtype=torch.float64)
        squares = coder(x, key=key).distortion
        assert squares.max() <= 0.25
        # Of u² the variance is 1/180.
        assert squares.mean().item() == pytest.approx(1 / 12, abs=5 * math.sqrt(1 / 180 / 40_000))
        parts = [coder(x[:7], key=key), coder(x[7:], key=key, first=7)]
        assert torch.equal(torch.cat([part.distortion for part in parts]), squares)

    def test_straight_through_uses_the_integers(self):
        coder = linear_coder(2.0, rounding="straight-through")
        trained, used = coder(self.x), coder.eval()(self.x)
        assert torch.equal(trained.loss, used.loss)
        coder.train()(self.x).distortion.sum().backward()
        integers = coder.encode(self.x).float()
        error = coder.decode(coder.encode(self.x)) - self.x
        expected = 2 * error * coder.decoder.weight.detach() * self.x
        torch.testing.assert_close(coder.encoder.weight.grad, expected.sum().view(1, 1))
        bits = -coder.entropy_model.log_prob(integers).sum(1) / math.log(2)
        torch.testing.assert_close(bits, used.rate)

    def test_a_critic_is_paid_for_and_not_trained(self):
        critic = nn.Linear(1, 1)
        plain = linear_coder(2.0).eval()
        judged = linear_coder(2.0, critic=lambda x: critic(x).squeeze(1)).eval()
        score = critic(plain.decode(plain.encode(self.x))).squeeze(1)
        torch.testing.assert_close(judged(self.x).loss, plain(self.x).loss - 2 * score)
        module = linear_coder(2.0, critic=critic)
        assert not [name for name, _ in module.named_parameters() if "critic" in name]


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"LossyCoder: beta is -1\.0; expected at least 0"):
        linear_coder(-1.0)
    with pytest.raises(ValueError, match="rounding is 'up'; expected one of noise"):
        linear_coder(1.0, rounding="up")
    coder = LossyCoder(nn.Linear(2, 1), nn.Linear(1, 3), FactorizedPrior(1), beta=1.0)
    with pytest.raises(ValueError, match=r"decoder gives \[4, 3\]; expected \[4, 2\]"):
        coder(torch.zeros(4, 2))
    with pytest.raises(TypeError, match=r"codes is torch.float32; expected int64"):
        coder.decode(torch.zeros(4, 1))
