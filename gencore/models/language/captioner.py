"""The encoder–decoder captioner: a recurrent network that an image's features start."""

import torch
from torch import Generator, Tensor, nn

from gencore.models.language.beams import Beams, State, beam_search
from gencore.ops._support.checks import accumulation_dtype
from gencore.sizes import check_positive

__all__ = ["Captioner"]


class Captioner(nn.Module):
    r"""A distribution of captions of an image, word by word.

    .. math:: h_0 = \theta_{hi}\, \phi(I), \qquad
              p(w_t \mid h_t) \propto \exp\bigl(w_t^T W (\theta_{wh} h_t + \theta_w)\bigr)
              \quad (B.1), \qquad h_{t+1} = g(h_t, W^T w_t) \quad (B.2)

    W has the words' vectors in its rows and g is a GRU. A caption ends with the word 0; all that
    comes after it is filled with zeros and has no part in the likelihood, as `Vocabulary` writes
    captions. θ_w is the bias that (B.5) adds to (B.1).

    Args:
        vocabulary_size: V, with the end.
        feature_size: of the image's features φ(I).
        embedding_size: of the words' vectors.
        hidden_size: of the state h.

    Attributes:
        STOP: the word that ends a caption, 0.
        embedding: W.
        start: θ_hi.
        word_state: θ_wh.
        word_bias: θ_w, which starts at zero.
        cell: g.

    Raises:
        ValueError: for a size below 1.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.1;
        Vinyals, Toshev, Bengio and Erhan, "Show and tell: a neural image caption generator", 2015.

    Example:
        >>> import torch
        >>> from gencore.models import Captioner
        >>> model = Captioner(20, feature_size=8, embedding_size=16, hidden_size=32)
        >>> features, captions = torch.randn(3, 8), torch.tensor([[5, 2, 0], [7, 0, 0], [3, 4, 9]])
        >>> model(captions, features).shape  # log p of the words; 0 after the end
        torch.Size([3, 3])
        >>> model.caption(features, beam_width=4, max_length=10).words.shape
        torch.Size([3, 4, 10])
    """

    STOP = 0

    def __init__(
        self, vocabulary_size: int, *, feature_size: int, embedding_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        check_positive(
            type(self).__name__, vocabulary_size=vocabulary_size, feature_size=feature_size,
            embedding_size=embedding_size, hidden_size=hidden_size,
        )  # fmt: skip
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        # Vectors of length 1: W is on both sides of the state, and normal numbers would be large.
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.start = nn.Linear(feature_size, hidden_size, bias=False)
        self.word_state = nn.Linear(hidden_size, embedding_size, bias=False)
        self.word_bias = nn.Parameter(torch.zeros(embedding_size))
        self.cell = nn.GRUCell(self._input_size(embedding_size), hidden_size)

    def _input_size(self, embedding_size: int) -> int:
        return embedding_size

    def forward(self, captions: Tensor, features: Tensor, regions: Tensor | None = None) -> Tensor:
        """log p(w_t | w_<t, I) of captions [N, T] of images with features [N, F], [N, T]: 0 after
        the end. The sum over t is log p of a caption, minus the mean over all is the loss (B.3).

        Args:
            captions: int64.
            features: φ(I).
            regions: of the image, for a captioner that has regions.

        Raises:
            ValueError: the captions are not [N, T] words of the vocabulary, or the features or
                regions do not fit.
        """
        self._check_captions(captions)
        self._check(features, regions)
        state, log_probs = self.initial_state(features), []
        for time in range(captions.shape[1]):
            words = captions[:, time - 1] if time else None
            log_prob, state = self.step(words, state, regions)
            log_probs.append(log_prob.gather(1, captions[:, time, None])[:, 0])
        return torch.stack(log_probs, 1).masked_fill(~self.is_word(captions), 0)

    def is_word(self, captions: Tensor) -> Tensor:
        """Which entries of captions [N, T] come before the end or are the end, bool [N, T]."""
        ends = (captions == self.STOP).long()
        return ends.cumsum(1) - ends == 0

    def initial_state(self, features: Tensor) -> State:
        """What `step` begins with, for images with features [N, F]: h₀, [N, H]."""
        hidden: Tensor = self.start(features)
        return (hidden,)

    def step(
        self, words: Tensor | None, state: State, regions: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """log p of the next word, [N, V], and the state after the words before it, int64 [N], which
        are None at the beginning: what `beam_search` asks for."""
        (hidden,) = state
        if words is not None:
            hidden = self.cell(self.embedding(words), hidden)
        scores = self.word_scores(hidden)
        return scores.to(accumulation_dtype(scores)).log_softmax(1), (hidden,)

    def word_scores(self, hidden: Tensor) -> Tensor:
        """W(θ_wh h + θ_w), [N, V]."""
        return (self.word_state(hidden) + self.word_bias) @ self.embedding.weight.T

    @torch.no_grad()
    def caption(
        self,
        features: Tensor,
        regions: Tensor | None = None,
        *,
        beam_width: int = 5,
        max_length: int = 20,
        length_power: float = 0.0,
    ) -> Beams:
        """The most probable captions of images, as `beam_search` finds them.

        Raises:
            ValueError: the features or regions do not fit, or a number is below 1.
        """
        self._check(features, regions)
        if regions is not None:
            regions = regions.repeat_interleave(beam_width, 0)
        return beam_search(
            lambda words, state: self.step(words, state, regions),
            self.initial_state(features),
            stop=self.STOP, beam_width=beam_width, max_length=max_length,
            length_power=length_power,
        )  # fmt: skip

    @torch.no_grad()
    def sample(
        self,
        features: Tensor,
        regions: Tensor | None = None,
        *,
        max_length: int = 20,
        generator: Generator | None = None,
    ) -> Tensor:
        """A caption drawn for each image, int64 [N, max_length].

        Raises:
            ValueError: the features or regions do not fit, or `max_length` is below 1.
        """
        check_positive(f"{type(self).__name__}.sample", max_length=max_length)
        self._check(features, regions)
        state, drawn = self.initial_state(features), []
        ended = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        words: Tensor | None = None
        for _ in range(max_length):
            log_prob, state = self.step(words, state, regions)
            words = torch.multinomial(log_prob.exp(), 1, generator=generator)[:, 0]
            words = words.masked_fill(ended, self.STOP)
            ended = ended | (words == self.STOP)
            drawn.append(words)
        return torch.stack(drawn, 1)

    def _check_captions(self, captions: Tensor) -> None:
        size = self.embedding.num_embeddings
        if captions.dtype != torch.int64:
            raise TypeError(f"{type(self).__name__}: captions are {captions.dtype}; expected int64")
        # Values on a GPU are not looked at: that would stop the host.
        looked_at = captions.device.type == "cpu" and not torch.compiler.is_compiling()
        wrong = looked_at and bool(((captions < 0) | (captions >= size)).any())
        if captions.ndim != 2 or wrong:
            raise ValueError(
                f"{type(self).__name__}: captions of shape {list(captions.shape)}; expected [N, T] "
                f"words from 0 to {size - 1}"
            )

    def _check(self, features: Tensor, regions: Tensor | None) -> None:
        size = self.start.in_features
        if features.ndim != 2 or features.shape[1] != size:
            raise ValueError(
                f"{type(self).__name__}: features have shape {list(features.shape)}; expected "
                f"[N, {size}]"
            )
        self._check_regions(features, regions)

    def _check_regions(self, features: Tensor, regions: Tensor | None) -> None:
        if regions is not None:
            raise ValueError(
                f"{type(self).__name__}: regions are given, but this captioner has none; use "
                "RegionCaptioner"
            )
