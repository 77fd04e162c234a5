"""Attention as a joint distribution of the next word and a region of the image."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gencore.ops._support.checks import accumulation_dtype
from gencore.sizes import check_positive

__all__ = ["WordRegionMarginals", "word_region_marginals"]


class WordRegionMarginals(NamedTuple):
    """Both marginals of p(w, r | h)."""

    log_word: Tensor
    """log p(w | h), [N, V]."""

    region: Tensor
    """p(r | h), [N, R]."""


def word_region_marginals(
    word_scores: Tensor,
    region_scores: Tensor,
    word_vectors: Tensor,
    regions: Tensor,
    *,
    chunk_size: int | None = None,
) -> WordRegionMarginals:
    r"""The marginals of a joint distribution of V words and R regions.

    .. math:: p(w, r) \propto \exp\bigl(a_w + b_r + u_w \cdot \rho_r\bigr), \qquad
              p(w) = \sum_r p(w, r), \qquad p(r) = \sum_w p(w, r)

    With `chunk_size` the table of V·R scores is never whole in memory: it is made for so many words
    at a time, and once more for the gradient. Without regions p(w) is the softmax of a. Sums are
    made in float32, or float64 for tensors of that.

    Args:
        word_scores: a, [N, V].
        region_scores: b, [N, R].
        word_vectors: u, [V, D].
        regions: ρ, [N, R, D].
        chunk_size: words at a time; all of them by default.

    Raises:
        ValueError: the shapes do not fit together, or there are no words.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.2, (B.4)
        and (B.5) with a = W(θ_wh h + θ_w), b = R(θ_rh h + θ_r) and u = Wθ_wr; Pedersoli, Lucas,
        Schmid and Verbeek, "Areas of attention for image captioning", 2017.

    Example:
        >>> import torch
        >>> from gencore.models import word_region_marginals
        >>> found = word_region_marginals(
        ...     torch.zeros(1, 3), torch.zeros(1, 2), torch.eye(3), torch.eye(3)[:2].expand(1, 2, 3)
        ... )
        >>> found.region
        tensor([[0.5000, 0.5000]])
        >>> found.log_word.exp().round(decimals=2)
        tensor([[0.3900, 0.3900, 0.2100]])
    """
    size = _check_shapes(word_scores, region_scores, word_vectors, regions)
    dtype = accumulation_dtype(regions)
    word_scores, region_scores = word_scores.to(dtype), region_scores.to(dtype)
    if regions.shape[1] == 0:
        return WordRegionMarginals(word_scores.log_softmax(1), region_scores)
    if chunk_size is None or chunk_size >= size:
        over_regions, over_words = _sums(word_scores, region_scores, word_vectors, regions)
    else:
        check_positive("word_region_marginals", chunk_size=chunk_size)
        bounds = [*range(0, size, chunk_size), size]
        parts, over_words = [], region_scores.new_full(region_scores.shape, -torch.inf)
        for first, end in pairwise(bounds):
            part, words = checkpoint(
                _sums, word_scores[:, first:end], region_scores, word_vectors[first:end], regions,
                use_reentrant=False,
            )  # fmt: skip
            parts.append(part)
            over_words = torch.logaddexp(over_words, words)
        over_regions = torch.cat(parts, 1)
    return WordRegionMarginals(over_regions.log_softmax(1), over_words.softmax(1))


def _sums(
    word_scores: Tensor, region_scores: Tensor, word_vectors: Tensor, regions: Tensor
) -> tuple[Tensor, Tensor]:
    """Logarithms of the sums of exp(score) over regions, [N, V], and over words, [N, R]."""
    score = (regions @ word_vectors.T).to(word_scores.dtype)
    score = score + word_scores[:, None] + region_scores[..., None]  # [N, R, V]
    return score.logsumexp(1), score.logsumexp(2)


def _check_shapes(a: Tensor, b: Tensor, vectors: Tensor, regions: Tensor) -> int:
    """V, or raise."""
    if (
        regions.ndim == 3
        and vectors.ndim == 2
        and len(vectors) > 0
        and vectors.shape[1] == regions.shape[2]
        and a.shape == (len(regions), len(vectors))
        and b.shape == regions.shape[:2]
    ):
        return len(vectors)
    raise ValueError(
        f"word_region_marginals: word_scores {list(a.shape)}, region_scores {list(b.shape)}, "
        f"word_vectors {list(vectors.shape)}, regions {list(regions.shape)}; expected [N, V], "
        "[N, R], [V, D] and [N, R, D], with at least one word"
    )
