"""Calibration of discriminators, by two normal densities whose log ratio is known."""

import math

import pytest
import torch

from gencore.metrics import calibration_statistic
from gencore.models import PlattScaling


def logit(x):
    """ln p/q of p = N(1, 1) and q = N(0, 2²)."""
    return -0.5 * (x - 1) ** 2 + x**2 / 8 + math.log(2)


def draw(num, other, seed):
    """Exact logits of `num` data and `other` samples."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(num + other, generator=generator, dtype=torch.float64)
    return logit(1 + normal[:num]), logit(2 * normal[num:])


@pytest.mark.parametrize(("num", "other"), [(20_000, 20_000), (5_000, 20_000)])
def test_an_affine_distortion_is_undone(num, other):
    """Within four standard errors of the maximum likelihood, by its Fisher information."""
    exact = draw(num, other, seed=0)
    scores = [(part - 1.5) / 0.4 for part in exact]
    scaling = PlattScaling.fit(*scores)
    prior = math.log(num / other)
    inputs = torch.cat(scores)
    inputs = torch.stack([inputs, torch.ones_like(inputs)], 1)
    probability = torch.sigmoid(torch.cat(exact) + prior)
    information = inputs.T @ ((probability * (1 - probability))[:, None] * inputs)
    errors = information.inverse().diagonal().sqrt()
    found = torch.stack([scaling.slope, scaling.intercept])
    expected = torch.tensor([0.4, 1.5 + prior], dtype=torch.float64)
    assert errors.max() < 0.1
    assert ((found - expected) / errors).abs().max() < 4
    torch.testing.assert_close(
        scaling(scores[0]), scaling.slope * scores[0] + scaling.intercept, rtol=0, atol=0
    )


def test_the_gradient_of_the_regression_vanishes():
    real, fake = draw(60, 40, seed=1)
    scaling = PlattScaling.fit(real, fake)
    residuals = torch.cat([scaling(real).sigmoid() - 61 / 62, scaling(fake).sigmoid() - 1 / 42])
    assert residuals.sum().abs() < 1e-7
    assert (residuals @ torch.cat([real, fake])).abs() < 1e-7


def test_separate_scores_get_the_probabilities_of_their_numbers():
    """Two values of scores are fitted exactly: to the targets (N + 1)/(N + 2) and 1/(M + 2)."""
    scaling = PlattScaling.fit(torch.full((8,), 80.0), torch.full((3,), -80.0))
    assert scaling(torch.tensor(80.0)).item() == pytest.approx(math.log(9), rel=1e-5)
    assert scaling(torch.tensor(-80.0)).item() == pytest.approx(-math.log(4), rel=1e-5)


def test_equal_scores_say_nothing():
    scaling = PlattScaling.fit(torch.full((50,), 3.0), torch.full((50,), 3.0))
    assert (scaling.slope.item(), scaling.intercept.item()) == (0.0, pytest.approx(0.0, abs=1e-9))


def test_the_statistic_of_a_constant_is_that_of_a_binomial():
    d = 1 / (1 + math.exp(-0.3))
    expected = (70 - 100 * d) / math.sqrt(100 * d * (1 - d))
    z = calibration_statistic(torch.full((70,), 0.3), torch.full((30,), 0.3))
    assert z == pytest.approx(expected, rel=1e-6)


def test_the_statistic_of_the_best_discriminator_is_standard():
    """Its variance over balanced draws is less than 1: the number of data does not vary."""
    z = torch.tensor([calibration_statistic(*mixed(500, seed)) for seed in range(400)])
    assert abs(z.mean()) < 4 / 20
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / 400)


def mixed(num, seed):
    """Logits of `num` draws, each by the toss of a coin a datum or a sample."""
    coins = torch.rand(num, generator=torch.Generator().manual_seed(seed)) < 0.5
    return draw(int(coins.sum()), num - int(coins.sum()), 1000 + seed)


def test_calibration_brings_the_statistic_down():
    scores = [3 * part + 1 for part in draw(4000, 4000, seed=2)]
    held_out = [3 * part + 1 for part in draw(4000, 4000, seed=3)]
    scaling = PlattScaling.fit(*scores)
    assert abs(calibration_statistic(*held_out)) > 10
    assert abs(calibration_statistic(*map(scaling, held_out))) < 4


def test_the_statistic_of_certain_logits():
    large = torch.full((5,), 1000.0)
    assert calibration_statistic(large, -large) == 0
    assert calibration_statistic(-large, -large) == math.inf
    assert calibration_statistic(large, large) == -math.inf
    assert math.isfinite(calibration_statistic(large * -0.08, large * 0.08))


def test_dtypes_and_states_are_kept(tmp_path):
    scaling = PlattScaling.fit(*draw(20, 30, seed=4))
    assert scaling(torch.zeros(3)).dtype == torch.float32
    other = PlattScaling()
    other.load_state_dict(scaling.state_dict())
    assert str(other) == str(scaling)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(3), r"real has shape \[3, 1\]"),
        (torch.zeros(3), torch.zeros(0), r"fake has shape \[0\]"),
        (torch.zeros(3), torch.tensor([0.0, torch.inf]), "fake has shape .* 1 scores that are not"),
    ],
)
def test_bad_scores_are_explained(real, fake, message):
    with pytest.raises(ValueError, match=f"PlattScaling.fit: {message}"):
        PlattScaling.fit(real, fake)
    if fake.isfinite().all():
        with pytest.raises(ValueError, match=message):
            calibration_statistic(real, fake)
