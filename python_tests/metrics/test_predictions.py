"""Scores of a classifier's predictions, and classifiers as judges."""

import math
from functools import cache

import pytest
import torch

from gencore.data import load_images
from gencore.metrics import (
    ClassifierFeatures,
    gan_test_train,
    inception_score,
    inception_score_splits,
    tweaked_inception_score,
)


def confident(num_classes: int, epsilon: float, covered: int | None = None) -> torch.Tensor:
    """Log-probabilities of one sample of each covered class, with the confidence 1 − ε."""
    p = torch.full((num_classes, num_classes), epsilon / (num_classes - 1), dtype=torch.float64)
    return p.fill_diagonal_(1 - epsilon).log()[:covered]


def test_m36_tweaked_inception_score():
    """0 when collapsed; 3.8206 for ten classes with the confidence 0.99."""
    assert tweaked_inception_score(confident(10, 0.01, covered=1).repeat(7, 1)) < 1e-15
    assert tweaked_inception_score(confident(10, 0.01)) == pytest.approx(3.8206, abs=5e-5)
    for epsilon, expected in ((0.1, 1.7578), (0.001, 5.8920)):
        score = tweaked_inception_score(confident(10, epsilon))
        assert score == pytest.approx(expected, abs=5e-5)
    scores = [tweaked_inception_score(confident(10, 0.01, covered=n)) for n in (1, 2, 5, 10)]
    assert scores == pytest.approx([0, 2.680, 3.808, 3.821], abs=5e-4)
    assert tweaked_inception_score(torch.full((3, 3), -math.inf).fill_diagonal_(0)) == math.inf


def test_the_tweaked_score_is_bounded_by_a_clamp():
    score = tweaked_inception_score(
        torch.full((3, 3), -math.inf).fill_diagonal_(0), min_log_prob=-6.0
    )
    assert score == pytest.approx(6 * 2 / 3 - math.log(3))
    # A class that nothing predicts adds nothing.
    unused = torch.full((2, 3), -math.inf)
    unused[:, 0] = 0
    assert tweaked_inception_score(unused) == 0


def test_the_inception_score_of_confident_predictions():
    """log IS = log K + (1 − ε) log(1 − ε) + ε log(ε/(K − 1))."""
    for num_classes, epsilon in ((2, 0.3), (10, 0.01)):
        certainty = (1 - epsilon) * math.log(1 - epsilon)
        doubt = epsilon * math.log(epsilon / (num_classes - 1))
        expected = num_classes * math.exp(certainty + doubt)
        assert inception_score(confident(num_classes, epsilon)) == pytest.approx(expected)
    one_hot = torch.full((6, 6), -math.inf).fill_diagonal_(0)
    assert inception_score(one_hot) == pytest.approx(6)
    assert inception_score(one_hot[:2]) == pytest.approx(2)
    assert inception_score(one_hot[:1].repeat(9, 1)) == 1


def test_logits_need_no_normalisation():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    for score in (inception_score, tweaked_inception_score):
        assert score(logits + torch.arange(20.0)[:, None]) == pytest.approx(score(logits), rel=1e-5)


def test_splits():
    logits = torch.cat([confident(10, 0.01), confident(10, 0.3)])
    first, second = inception_score(logits[:10]), inception_score(logits[10:])
    mean, std = inception_score_splits(logits, 2)
    assert (mean, std) == (pytest.approx((first + second) / 2), pytest.approx((first - second) / 2))
    with pytest.raises(ValueError, match=r"^inception_score_splits: num_splits = 11 of 20"):
        inception_score_splits(logits, 11)


@pytest.mark.parametrize("score", [inception_score, tweaked_inception_score])
def test_bad_logits(score):
    name = score.__name__
    with pytest.raises(TypeError, match=rf"^{name}: logits are torch\.int64"):
        score(torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=rf"^{name}: logits have shape \(3,\)"):
        score(torch.zeros(3))
    with pytest.raises(ValueError, match=rf"^{name}: logits hold NaN"):
        score(torch.full((2, 2), -math.inf))


def test_bad_clamp():
    with pytest.raises(ValueError, match=r"min_log_prob = 0\.0"):
        tweaked_inception_score(torch.zeros(2, 2), min_log_prob=0.0)


def test_l31_gan_test_and_gan_train():
    """Real images as generated ones: the classifier's accuracy; half the classes: train ≈ ½."""
    pytest.importorskip("sklearn")
    train_set, test_set = (load_images("digits", split=part) for part in ("train", "test"))
    train, test = (train_set.images, train_set.labels), (test_set.images, test_set.labels)

    @cache  # tensors are told apart by their identity
    def fit(images, labels):
        return ClassifierFeatures.fit(images, labels, num_steps=80, batch_size=64)

    accuracy = fit(*train).accuracy(*test)
    assert accuracy > 0.9
    assert gan_test_train(train, test, train, fit).gan_train == accuracy
    assert gan_test_train(train, test, test, fit).gan_test == accuracy

    kept = train[1] < 5
    half = gan_test_train(train, test, (train[0][kept], train[1][kept]), fit)
    # It knows the five classes only, so the others are all wrong.
    fraction = (test[1] < 5).double().mean().item()
    assert fraction - 0.05 < half.gan_train <= fraction
    assert half.gan_test > 0.9
    assert half.real == accuracy
