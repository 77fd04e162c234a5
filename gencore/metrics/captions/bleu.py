"""BLEU: n-grams of captions that are those of references."""

from collections.abc import Sequence
from typing import Any

from gencore.extras import language_extra
from gencore.metrics.captions.references import check_references
from gencore.sizes import check_positive

__all__ = ["bleu"]


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, max_order: int = 4
) -> float:
    r"""The corpus BLEU of candidates, in [0, 1].

    .. math:: \exp\Bigl(\min(0, 1 - r/c) + \frac{1}{M} \sum_{n=1}^M \log p_n\Bigr)

    p_n is the part of all candidates' n-grams that are in a reference, each counted at most as
    often as in one of them; c is the candidates' length in words, and r that of the references
    nearest in length. It is 1 where every candidate is one of its references, if they have n-grams
    of all orders, and 0 where there is none of an order: nothing is smoothed.

    Args:
        candidates: N captions, whose words are what spaces separate.
        references: one or more for each.
        max_order: M, 4 for BLEU4.

    Raises:
        ModuleNotFoundError: sacrebleu is missing.
        ValueError: there are no candidates, or not one or more references for each.

    Source:
        Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine
        translation", 2002; by sacrebleu, without its tokeniser.

    Example:
        >>> bleu(["a red disc above a square"], [["a red disc above a square", "a disc"]])
        1.0
    """
    check_references("bleu", candidates, references)
    check_positive("bleu", max_order=max_order)
    with language_extra("bleu"):
        from sacrebleu.metrics.bleu import BLEU
    metric = BLEU(max_ngram_order=max_order, tokenize="none", smooth_method="none", force=True)
    num = max(len(some) for some in references)
    # sacrebleu wants the first references of all, then the second ones, with None for no more.
    streams: Any = [[some[i] if i < len(some) else None for some in references] for i in range(num)]
    score = metric.corpus_score(list(candidates), streams).score / 100
    return min(float(score), 1.0)  # the logarithms' rounding
