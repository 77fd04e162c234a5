"""Detection scores against pairs counted one by one, and ROC curves that are known."""

import math
from statistics import NormalDist

import pytest
import torch

from gencore.metrics import detection_scores, false_positive_rate

pytest.importorskip("sklearn")


def randn(num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, generator=generator, dtype=torch.float64)


def test_y28_detection_scores():
    """AUROC is Mann and Whitney's U, ties count half; a sign flip gives its complement."""
    data, elsewhere = (2 * randn(80)).round(), (2 * randn(50, seed=1)).round() + 1
    assert len(data.unique()) < 20  # many ties
    scores = detection_scores(data, elsewhere)
    greater = (elsewhere[:, None] > data).double() + 0.5 * (elsewhere[:, None] == data)
    assert scores.auroc == pytest.approx(greater.mean().item(), rel=1e-12)
    assert detection_scores(-data, -elsewhere).auroc == pytest.approx(1 - scores.auroc, rel=1e-12)
    assert detection_scores(data.exp(), elsewhere.exp()) == pytest.approx(scores)
    assert detection_scores(randn(30) - 10, randn(40) + 10) == pytest.approx((1, 1, 0))
    # All scores alike: nothing is told apart, and 80 % are found only with all.
    assert detection_scores(torch.zeros(30), torch.zeros(10)) == (0.5, 0.25, 1)


def test_of_two_gaussians():
    """N(0, 1) against N(δ, 1): AUROC = Φ(δ/√2), FPR80 = Φ(−δ + Φ⁻¹(0.8))."""
    num, shift, normal = 20_000, 1.2, NormalDist()
    scores = detection_scores(randn(num), randn(num, seed=1) + shift)
    assert scores.auroc == pytest.approx(normal.cdf(shift / math.sqrt(2)), abs=4 * 0.5 / num**0.5)
    threshold = shift - normal.inv_cdf(0.8)
    rate = 1 - normal.cdf(threshold)
    # The rate's own error, and that of the threshold, a quantile of the others.
    slope = normal.pdf(threshold) / normal.pdf(normal.inv_cdf(0.8))
    error = math.sqrt((rate * (1 - rate) + slope**2 * 0.16) / num)
    assert scores.fpr80 == pytest.approx(rate, abs=4 * error)
    # As many of both: without use the average precision is one half.
    assert detection_scores(randn(num), randn(num, seed=1)).auprc == pytest.approx(0.5, abs=0.02)


def test_false_positive_rates_by_hand():
    elsewhere = torch.tensor([10.0, 8.0, 6.0, 4.0, 2.0])
    data = torch.tensor([1.0, 3.0, 4.0, 5.0, 9.0, 0.0, 0.0, 0.0])
    # 80 % are four of five: the threshold is 4, and 4, 5 and 9 reach it.
    assert false_positive_rate(data, elsewhere) == 3 / 8
    # 81 % take all five: the threshold is 2.
    assert false_positive_rate(data, elsewhere, 0.81) == 4 / 8
    assert false_positive_rate(data, elsewhere, 0.2) == 0
    assert false_positive_rate(data, elsewhere, 1.0) == 4 / 8


@pytest.mark.parametrize("num", range(5, 200, 5))
def test_a_whole_number_of_eighty_percent_is_not_rounded_up(num):
    elsewhere = torch.arange(float(num))
    threshold = num - 0.8 * num  # as many lie at it or above as are to be found
    data = torch.tensor([threshold - 0.5])
    assert false_positive_rate(data, elsewhere) == 0


def test_against_the_roc_curve_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    data, elsewhere = (3 * randn(173)).round(), (3 * randn(91, seed=1)).round() + 1
    truth = [0] * len(data) + [1] * len(elsewhere)
    fpr, tpr, _ = metrics.roc_curve(truth, torch.cat([data, elsewhere]), drop_intermediate=False)
    for rate in (0.5, 0.8, 0.95, 1.0):
        assert false_positive_rate(data, elsewhere, rate) == fpr[tpr >= rate].min()


def test_infinite_scores_are_the_extremes():
    data, elsewhere = torch.tensor([-math.inf, 0.0, 1.0]), torch.tensor([2.0, math.inf])
    assert detection_scores(data, elsewhere) == (1, 1, 0)


@pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(2, 2), torch.tensor([math.nan])])
def test_bad_input(wrong):
    with pytest.raises(ValueError, match=r"^detection_scores: in_distribution"):
        detection_scores(wrong, torch.zeros(2))
    with pytest.raises(ValueError, match=r"^false_positive_rate: out_of_distribution"):
        false_positive_rate(torch.zeros(2), wrong)


def test_bad_rate():
    with pytest.raises(ValueError, match="true_positive_rate = 0"):
        false_positive_rate(torch.zeros(2), torch.zeros(2), 0.0)
