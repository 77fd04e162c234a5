"""ROUGE-L: the longest words in common, in order."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.metrics.captions.references import check_references

__all__ = ["rouge_l"]


def rouge_l(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, beta: float = 1.2
) -> Tensor:
    r"""The F-measure of the longest common subsequence of words, of each candidate, float64 [N].

    .. math:: \frac{(1 + \beta^2)\, P\, R}{R + \beta^2 P}, \qquad P = \max_j \frac{L_j}{c},
              \quad R = \max_j \frac{L_j}{r_j}

    L_j is the length of the longest subsequence that the candidate, of c words, has in common with
    reference j, of r_j words. With several references the best precision and the best recall may be
    of two of them, as in MSCOCO's evaluation, whose β is the default.

    Args:
        candidates: N captions, whose words are what spaces separate.
        references: one or more for each.
        beta: β, the weight of the recall.

    Raises:
        ValueError: there are no candidates, not one or more references for each, or β is not
            positive.

    Source:
        Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, section 3; Chen et al.,
        "Microsoft COCO captions: data collection and evaluation server", 2015.

    Example:
        >>> rouge_l(["police kill the gunman"], [["police killed the gunman"]])
        tensor([0.7500], dtype=torch.float64)
    """
    check_references("rouge_l", candidates, references)
    if not beta > 0:
        raise ValueError(f"rouge_l: beta is {beta}; expected positive")
    scores = []
    for candidate, some in zip(candidates, references, strict=True):
        words = candidate.split()
        precision = recall = 0.0
        for reference in some:
            others = reference.split()
            common = _longest_common(words, others)
            precision = max(precision, common / max(len(words), 1))
            recall = max(recall, common / max(len(others), 1))
        weighted = recall + beta**2 * precision
        scores.append((1 + beta**2) * precision * recall / weighted if weighted else 0.0)
    return torch.tensor(scores, dtype=torch.float64)


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = best[place]
            best[place] = diagonal + 1 if word == other else max(above, best[place - 1])
            diagonal = above
    return best[-1]
