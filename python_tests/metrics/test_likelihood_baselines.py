"""The Gaussian baselines against closed forms, torch's distributions, and data they must suit."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from gencore.metrics import full_gaussian_bits, independent_gaussian_bits

BASELINES = [independent_gaussian_bits, full_gaussian_bits]


def quantised(y):
    """Levels of points whose dequantised values have nearly their distribution."""
    levels = y.floor()
    assert levels.min() >= 0
    assert levels.max() <= 255
    return levels.to(torch.uint8)


def uniform_images(num, *shape, high=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, (num, *shape), dtype=torch.uint8, generator=generator)


def test_data_from_a_gaussian_have_its_entropy():
    torch.manual_seed(0)
    num, mixing = 40_000, torch.tensor([[20.0, 0.0, 0.0], [10.0, 8.0, 0.0], [-6.0, 5.0, 4.0]])
    train, test = quantised(128 + torch.randn(2, num, 3) @ mixing.T)
    # An image's −log p has variance D/2 (in nats²), each of D dimensions adding ½χ²₁; quantising
    # and dequantising adds at most 2/12 to variances of 16 and more.
    error = 4 * math.sqrt(1 / (2 * 3 * num)) / math.log(2) + 0.5 / 12 / 16 / math.log(2) * 2
    gaussian = math.log2(2 * math.pi * math.e)
    stds = mixing.square().sum(1).sqrt()
    expected = 0.5 * gaussian + stds.log2().mean().item()
    assert independent_gaussian_bits(train, test) == pytest.approx(expected, abs=error)
    expected = 0.5 * gaussian + mixing.diagonal().log2().mean().item()
    assert full_gaussian_bits(train, test) == pytest.approx(expected, abs=error)


def test_the_expectation_over_the_noise_is_exact():
    """Against a Monte Carlo average with the moments of dequantised levels, estimated likewise."""
    torch.manual_seed(1)
    train, test = uniform_images(7, 1, 2, 2, high=4, seed=1), uniform_images(3, 1, 2, 2, high=4)
    num = 200_000

    def dequantised(images):
        return images.flatten(1).double() + torch.rand(num, len(images), 4, dtype=torch.float64)

    y = dequantised(train).flatten(0, 1)
    normals = {
        independent_gaussian_bits: Normal(y.mean(0), y.std(0)),
        full_gaussian_bits: MultivariateNormal(y.mean(0), y.T.cov() + 0.5 * torch.eye(4)),
    }
    for baseline, normal in normals.items():
        log_prob = normal.log_prob(dequantised(test)).reshape(num, -1).sum(1) / (-12 * math.log(2))
        error = 5 * log_prob.std().item() / math.sqrt(num) + 5e-3
        options = {"ridges": [0.5]} if baseline is full_gaussian_bits else {}
        assert baseline(train, test, **options) == pytest.approx(log_prob.mean().item(), abs=error)


def test_uniform_levels_cost_more_than_the_uniform_density():
    """½ log₂(2πe·256²/12) = 8 + ½ log₂(2πe/12) bits: the true density, constant, takes 8."""
    train, test = uniform_images(20_000, 1, 2, 2), uniform_images(20_000, 1, 2, 2, seed=1)
    expected = 8 + 0.5 * math.log2(2 * math.pi * math.e / 12)
    for baseline in BASELINES:
        assert baseline(train, test) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("baseline", BASELINES)
def test_images_all_alike_leave_the_noise(baseline):
    """Variance 1/12 in every dimension, and E(y − m)² the same: ½ log₂(2πe/12) bits."""
    images = torch.full((4, 1, 3, 3), 200, dtype=torch.uint8)
    options = {"ridges": [0.0]} if baseline is full_gaussian_bits else {}
    expected = 0.5 * math.log2(2 * math.pi * math.e / 12)
    assert baseline(images, images, **options) == pytest.approx(expected, abs=1e-9)
    # A level never seen costs (Δ²/2)/(1/12) nats in its dimension.
    other = images.clone()
    other[:, 0, 0, 0] += 3
    extra = 0.5 * 9 * 12 / (9 * math.log(2))
    assert baseline(images, other, **options) == pytest.approx(expected + extra, abs=1e-9)


def test_the_ridge_is_chosen_on_training_images_held_out():
    train, test = uniform_images(20, 1, 4, 4, seed=2), uniform_images(500, 1, 4, 4, seed=3)
    ridges = [0.0, 10.0, 3000.0]
    each = [full_gaussian_bits(train, test, [ridge]) for ridge in ridges]
    # Twenty images barely determine sixteen variances: a large ridge is much the better.
    assert each[2] < each[1] - 1
    assert full_gaussian_bits(train, test, ridges) == each[2]
    # What the test images are has no part in the choice.
    assert full_gaussian_bits(train, train, ridges) == full_gaussian_bits(train, train, [3000.0])


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(
    ("train", "test", "error", "message"),
    [
        (torch.zeros(5, 4), uniform_images(5, 4), TypeError, "train is torch.float32"),
        (uniform_images(5, 4), torch.zeros(5, 4), TypeError, "test is torch.float32"),
        (uniform_images(5, 4)[:0], uniform_images(5, 4), ValueError, r"train has shape \[0, 4\]"),
        (uniform_images(5, 4), uniform_images(5, 3), ValueError, r"shape \[3\], expected \[4\]"),
    ],
)
def test_bad_input(baseline, train, test, error, message):
    with pytest.raises(error, match=f"{baseline.__name__}: .*{message}"):
        baseline(train, test)


def test_bad_ridges():
    images = uniform_images(5, 4)
    for ridges in ([], [-1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="ridges are"):
            full_gaussian_bits(images, images, ridges)
    with pytest.raises(ValueError, match="train holds 1 image"):
        full_gaussian_bits(images[:1], images)
