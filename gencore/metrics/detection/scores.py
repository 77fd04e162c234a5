"""How well a score tells data from elsewhere (out of distribution) from the data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.extras import training_extra

__all__ = ["DetectionScores", "detection_scores", "false_positive_rate"]


class DetectionScores(NamedTuple):
    """Data from elsewhere are the positive class."""

    auroc: float
    """Area under the ROC curve: the probability that a point from elsewhere has the higher score,
    ties counted half. ½ for a useless score."""

    auprc: float
    """Area under the precision-recall curve, as the average precision the sum of precision
    times the step in recall. For a useless score it is the fraction of positives."""

    fpr80: float
    """False positive rate at 80 % true positive rate; see `false_positive_rate`."""


def detection_scores(in_distribution: Tensor, out_of_distribution: Tensor) -> DetectionScores:
    """AUROC, AUPRC and FPR80 of a score that should be *higher* for data from elsewhere.

    Give log-likelihoods with a minus sign.

    Args:
        in_distribution: Scores of the data, [N], N ≥ 1.
        out_of_distribution: Scores of data from elsewhere, [M], M ≥ 1.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
        ValueError: scores are not [N] and [M], there are none, or some are NaN.

    Source:
        Fawcett, "An introduction to ROC analysis", 2006; the scores computed by scikit-learn's
        ``roc_auc_score`` and ``average_precision_score``.

    Example:
        >>> detection_scores(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([3.0, 4.0]))
        DetectionScores(auroc=1.0, auprc=1.0, fpr80=0.0)
    """
    negative, positive = _checked("detection_scores", in_distribution, out_of_distribution)
    with training_extra("detection_scores"):
        from sklearn.metrics import average_precision_score, roc_auc_score
    # Infinite scores stand for the extremes: only the order counts, so ranks do as well.
    ranks = torch.cat([negative, positive]).unique(return_inverse=True)[1].numpy()
    truth = [0] * len(negative) + [1] * len(positive)
    return DetectionScores(
        float(roc_auc_score(truth, ranks)),
        float(average_precision_score(truth, ranks)),
        false_positive_rate(negative, positive, 0.8),
    )


def false_positive_rate(
    in_distribution: Tensor, out_of_distribution: Tensor, true_positive_rate: float = 0.8
) -> float:
    """Fraction of the data that are taken for data from elsewhere, when a given fraction of those
    is found.

    The threshold is the highest at which at least this fraction of `out_of_distribution` have a
    score equal to it or above: the ⌈rate · M⌉-th largest of their scores. The false positives are
    the scores of `in_distribution` that equal it or lie above. Nothing is interpolated between the
    points of the ROC curve.

    Args:
        in_distribution: Scores of the data, [N], N ≥ 1.
        out_of_distribution: Scores of data from elsewhere, [M], M ≥ 1; higher than the others,
            if the score is of use.
        true_positive_rate: The fraction to be found, in (0, 1].

    Raises:
        ValueError: scores are not [N] and [M], there are none, some are NaN, or the rate is not in
            (0, 1].

    Example:
        >>> elsewhere = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])  # 80 % of five are the four highest
        >>> false_positive_rate(torch.tensor([0.0, 1.5, 2.0, 2.5]), elsewhere)
        0.5
    """
    negative, positive = _checked("false_positive_rate", in_distribution, out_of_distribution)
    if not 0 < true_positive_rate <= 1:
        raise ValueError(
            f"false_positive_rate: true_positive_rate = {true_positive_rate}, expected a number in "
            "(0, 1]"
        )
    # 0.8 · 35 is 28.000000000000004 in floating point.
    found = max(math.ceil(true_positive_rate * len(positive) * (1 - 1e-12)), 1)
    threshold = positive.sort(descending=True).values[found - 1]
    return (negative >= threshold).double().mean().item()


def _checked(function: str, negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    for name, scores in (("in_distribution", negative), ("out_of_distribution", positive)):
        if scores.ndim != 1 or len(scores) == 0 or scores.isnan().any():
            raise ValueError(
                f"{function}: {name} has shape {tuple(scores.shape)}, expected [N] scores, at "
                "least one and none of them NaN"
            )
    return negative.detach().double().cpu(), positive.detach().double().cpu()
