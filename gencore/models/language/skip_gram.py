"""Skip-gram with negative sampling (word2vec): vectors of words from the words beside them."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from gencore.sizes import check_positive

__all__ = ["SkipGram", "context_counts", "shifted_pmi", "skip_gram_pairs"]


class SkipGram(nn.Module):
    r"""Vectors v of words and v' of contexts that tell pairs of a corpus from drawn ones.

    .. math:: p(D = 1 \mid w, c) = \sigma(v_w \cdot v'_c), \qquad
              \ell(w, c) = -\log \sigma(v_w \cdot v'_c)
              - \sum_{i=1}^k \log \sigma(-v_w \cdot v'_{c_i}), \qquad c_i \sim P_n

    The negative contexts have the distribution P_n ∝ #(c)^a. With vectors as long as they have to
    be, the optimum is `shifted_pmi`: v_w · v'_c = PMI(w, c) − log k for a = 1.

    Args:
        vocabulary_size: V.
        embedding_size: d.
        counts: #(c), how often each context occurs, [V], one or more positive.
        negatives: k, negative contexts of each pair.
        power: a, 0.75 in word2vec.

    Attributes:
        words: v, an `nn.Embedding`; what word2vec gives away.
        contexts: v', which start at zero.
        noise: P_n, [V].

    Raises:
        ValueError: a size is below 1, or the counts are not those of V contexts.

    References:
        Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and
        phrases and their compositionality", 2013, (4); Levy and Goldberg, "Neural word embedding as
        implicit matrix factorization", 2014; Bruna, "Inference and representation", lecture 11.

    Example:
        >>> import torch
        >>> from gencore.models import SkipGram, skip_gram_pairs
        >>> corpus = torch.tensor([0, 1, 2, 0, 1, 3])
        >>> words, contexts = skip_gram_pairs(corpus, window=1)
        >>> model = SkipGram(4, 8, counts=contexts.bincount(minlength=4))
        >>> model(words, contexts).shape                       # a loss for each pair
        torch.Size([10])
        >>> model.nearest(torch.tensor([1]), 2).shape
        torch.Size([1, 2])
    """

    noise: Tensor

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        *,
        counts: Tensor,
        negatives: int = 5,
        power: float = 0.75,
    ) -> None:
        super().__init__()
        check_positive(
            "SkipGram", vocabulary_size=vocabulary_size, embedding_size=embedding_size,
            negatives=negatives,
        )  # fmt: skip
        _check_counts("SkipGram", counts, (vocabulary_size,))
        self.negatives = negatives
        self.words = nn.Embedding(vocabulary_size, embedding_size)
        self.contexts = nn.Embedding(vocabulary_size, embedding_size)
        # As in word2vec: small vectors of words, none of contexts, so that p begins at ½.
        half = 0.5 / embedding_size
        nn.init.uniform_(self.words.weight, -half, half)
        nn.init.zeros_(self.contexts.weight)
        self.register_buffer("noise", _noise(counts, power).to(self.words.weight.dtype))

    def forward(
        self,
        words: Tensor,
        contexts: Tensor,
        negatives: Tensor | None = None,
        *,
        generator: Generator | None = None,
    ) -> Tensor:
        """The loss ℓ of pairs, [B].

        Args:
            words: int64 [B].
            contexts: int64 [B].
            negatives: negative contexts, int64 [B, k]; drawn from `noise` by default.
            generator: of what is drawn.

        Raises:
            ValueError: the shapes do not fit.
        """
        if negatives is None:
            negatives = self.draw_negatives(len(words), generator=generator)
        if words.ndim != 1 or words.shape != contexts.shape or len(negatives) != len(words):
            raise ValueError(
                f"SkipGram: words {list(words.shape)}, contexts {list(contexts.shape)}, negatives "
                f"{list(negatives.shape)}; expected [B], [B] and [B, k]"
            )
        vectors = self.words(words)
        positive = (vectors * self.contexts(contexts)).sum(1)
        negative = (self.contexts(negatives) @ vectors[..., None])[..., 0]
        return -logsigmoid(positive) - logsigmoid(-negative).sum(1)

    def draw_negatives(self, num: int, *, generator: Generator | None = None) -> Tensor:
        """Contexts of P_n, int64 [num, k]."""
        drawn = torch.multinomial(
            self.noise, num * self.negatives, replacement=True, generator=generator
        )
        return drawn.view(num, self.negatives)

    def expected_loss(self, counts: Tensor) -> Tensor:
        r"""The mean of ℓ over the pairs of a corpus and over all negative contexts, a scalar.

        .. math:: -\frac{1}{|D|} \sum_{w, c} \#(w, c) \log \sigma(v_w \cdot v'_c)
                  + k\, \#(w) P_n(c) \log \sigma(-v_w \cdot v'_c)

        Nothing is drawn: for vocabularies whose V² numbers fit in memory.

        Args:
            counts: #(w, c), [V, V], as of `context_counts`.

        Raises:
            ValueError: the counts are not those of V words and V contexts.
        """
        size = self.words.num_embeddings
        _check_counts("SkipGram.expected_loss", counts, (size, size))
        pairs = counts.to(self.noise) / counts.sum()
        drawn = self.negatives * pairs.sum(1, keepdim=True) * self.noise
        scores = self.words.weight @ self.contexts.weight.T
        return -(pairs * logsigmoid(scores) + drawn * logsigmoid(-scores)).sum()

    @torch.no_grad()
    def nearest(self, words: Tensor, num: int) -> Tensor:
        """The words whose vectors have the smallest angles with those of `words` [B], but for these
        themselves, the nearest first, int64 [B, num]."""
        unit = nn.functional.normalize(self.words.weight, dim=1)
        cosine = unit[words] @ unit.T
        cosine.scatter_(1, words[:, None], -math.inf)
        return cosine.topk(num, dim=1).indices

    def extra_repr(self) -> str:
        return f"negatives={self.negatives}"


def skip_gram_pairs(corpus: Tensor | Sequence[int], *, window: int) -> tuple[Tensor, Tensor]:
    """Words and contexts, int64 [P] each: every word with each of the `window` words before and
    after it.

    word2vec draws a smaller window for each word, which weighs near contexts more; here all count.

    Raises:
        ValueError: the corpus is not [T], or the window is below 1.

    Example:
        >>> [part.tolist() for part in skip_gram_pairs([7, 8, 9], window=1)]
        [[7, 8, 8, 9], [8, 9, 7, 8]]
    """
    check_positive("skip_gram_pairs", window=window)
    corpus = torch.as_tensor(corpus, dtype=torch.int64)
    if corpus.ndim != 1:
        raise ValueError(
            f"skip_gram_pairs: corpus has shape {list(corpus.shape)}; expected [T] words"
        )
    ahead = [(corpus[:-step], corpus[step:]) for step in range(1, min(window, len(corpus) - 1) + 1)]
    if not ahead:
        return corpus[:0], corpus[:0]
    first, second = (torch.cat(part) for part in zip(*ahead, strict=True))
    return torch.cat([first, second]), torch.cat([second, first])


def context_counts(words: Tensor, contexts: Tensor, vocabulary_size: int) -> Tensor:
    """#(w, c), int64 [V, V], of pairs [P].

    Example:
        >>> context_counts(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), 2)
        tensor([[0, 2],
                [1, 0]])
    """
    check_positive("context_counts", vocabulary_size=vocabulary_size)
    cells = words * vocabulary_size + contexts
    return cells.bincount(minlength=vocabulary_size**2).view(vocabulary_size, vocabulary_size)


def shifted_pmi(counts: Tensor, *, negatives: int = 1, power: float = 1.0) -> Tensor:
    r"""What the products of vectors are at the optimum of skip-gram with negative sampling.

    .. math:: v_w \cdot v'_c = \log \frac{\#(w, c)}{\#(w)\, P_n(c)} - \log k, \qquad
              P_n(c) \propto \#(c)^a

    With a = 1 this is the pointwise mutual information of w and c less log k.

    Args:
        counts: #(w, c), [V, C].
        negatives: k.
        power: a.

    Returns:
        [V, C] in float64; −∞ for pairs that do not occur, NaN in the rows and columns of words and
        contexts that do not occur at all.

    Raises:
        ValueError: the counts are negative or all 0, or k is below 1.

    Source:
        Levy and Goldberg, "Neural word embedding as implicit matrix factorization", 2014, (11).

    Example:
        >>> shifted_pmi(torch.tensor([[3, 1], [1, 3]])).exp()  # ¾ and ¼, in place of ½
        tensor([[1.5000, 0.5000],
                [0.5000, 1.5000]], dtype=torch.float64)
    """
    check_positive("shifted_pmi", negatives=negatives)
    _check_counts("shifted_pmi", counts, counts.shape[:2])
    counts = counts.double()
    expected = counts.sum(1, keepdim=True) * _noise(counts.sum(0), power)
    return (counts / expected).log() - math.log(negatives)


def _noise(counts: Tensor, power: float) -> Tensor:
    weights = counts.double() ** power
    # 0⁰ is 1, but a context that does not occur is not drawn.
    weights = weights.masked_fill(counts == 0, 0)
    return weights / weights.sum()


def _check_counts(function: str, counts: Tensor, shape: Sequence[int]) -> None:
    if counts.shape != tuple(shape) or bool((counts < 0).any()) or not bool((counts > 0).any()):
        raise ValueError(
            f"{function}: counts have shape {list(counts.shape)}; expected {list(shape)} numbers "
            "that are not negative and not all 0"
        )
