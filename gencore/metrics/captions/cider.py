"""CIDEr and CIDEr-D: the agreement of captions in n-grams that tell images apart."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gencore.metrics.captions.references import check_references
from gencore.sizes import check_positive

__all__ = ["cider_d"]


def cider_d(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    max_order: int = 4,
    sigma: float = 6.0,
) -> Tensor:
    r"""CIDEr-D of each candidate, in [0, 10], float64 [N].

    .. math:: \frac{10}{M} \sum_{n=1}^M \frac{1}{J} \sum_j
              e^{-(l_c - l_j)^2 / 2\sigma^2}\,
              \frac{\min(g^n(c), g^n(s_j)) \cdot g^n(s_j)}{\|g^n(c)\|\,\|g^n(s_j)\|}

    g^n of a caption has an entry for each n-gram: how often the caption has it, times
    log(N / number of images whose references have it). The smaller entry of both, so that to repeat
    a word does not help; l are the captions' lengths in words, and J is the number of references.
    A corpus is measured by the mean of its candidates, which is published ×10 or ×100. An n-gram in
    the references of all N images counts for nothing, so that of one image all scores are 0.
    Words are compared as they are, without stemming, as MSCOCO's program does.

    Args:
        candidates: N captions, whose words are what spaces separate.
        references: one or more for each; they are also the corpus that weighs the n-grams.
        max_order: M.
        sigma: σ of the penalty for another length; infinite for none.

    Raises:
        ValueError: there are no candidates, not one or more references for each, `max_order` is
            below 1, or σ is not positive.

    Source:
        Vedantam, Zitnick and Parikh, "CIDEr: consensus-based image description evaluation", 2015,
        equations 1 to 4.

    Example:
        >>> captions = ["a red disc above a blue square", "the white cat on a very long sofa"]
        >>> cider_d(captions, [[caption] for caption in captions])
        tensor([10., 10.], dtype=torch.float64)
    """
    check_references("cider_d", candidates, references)
    check_positive("cider_d", max_order=max_order)
    if not sigma > 0:
        raise ValueError(f"cider_d: sigma is {sigma}; expected positive")
    counted = [[_grams(text, max_order) for text in some] for some in references]
    images = Counter(gram for some in counted for gram in set().union(*some))
    num = len(candidates)

    def vector(counts: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], float]:
        # An n-gram of a candidate that no reference has counts as one of a single image.
        return {gram: n * math.log(num / max(images[gram], 1)) for gram, n in counts.items()}

    scores = []
    for candidate, some, counts in zip(candidates, references, counted, strict=True):
        given = vector(_grams(candidate, max_order))
        total = 0.0
        for reference, others in zip(some, counts, strict=True):
            difference = len(candidate.split()) - len(reference.split())
            penalty = math.exp(-((difference / sigma) ** 2) / 2)
            total += penalty * _agreement(given, vector(others), max_order)
        scores.append(10 * total / len(some))
    return torch.tensor(scores, dtype=torch.float64)


def _grams(text: str, max_order: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, max_order + 1)
        for start in range(len(words) - order + 1)
    )


def _agreement(
    given: Mapping[tuple[str, ...], float], other: Mapping[tuple[str, ...], float], max_order: int
) -> float:
    """The mean over orders of the clipped cosine."""
    products, squares = [0.0] * max_order, [[0.0] * max_order for _ in range(2)]
    for gram, weight in given.items():
        if gram in other:
            products[len(gram) - 1] += min(weight, other[gram]) * other[gram]
    for vector, sums in zip((given, other), squares, strict=True):
        for gram, weight in vector.items():
            sums[len(gram) - 1] += weight**2
    cosines = (
        product / math.sqrt(first * second) if first * second > 0 else 0.0
        for product, first, second in zip(products, *squares, strict=True)
    )
    return sum(cosines) / max_order
