"""Areas of attention: a captioner that chooses a region of the image with each word."""

from typing import get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.models.language.beams import State
from gencore.models.language.captioner import Captioner
from gencore.models.language.names import RegionFeedback
from gencore.models.language.region_attention import WordRegionMarginals, word_region_marginals
from gencore.sizes import check_positive

__all__ = ["RegionCaptioner"]


class RegionCaptioner(Captioner):
    r"""A `Captioner` of a joint distribution of words and of regions, the rows of R.

    .. math:: p(w, r \mid h) \propto \exp\bigl(w^T W \theta_{wh} h + w^T W \theta_{wr} R^T r
              + r^T R\, \theta_{rh} h + w^T W \theta_w + r^T R\, \theta_r\bigr)
              \quad (B.4), (B.5)

    The next word has the marginal distribution p(w | h). The marginal distribution of regions
    pools what is seen, and both are fed back:

    .. math:: v_t = \sum_r p(r \mid h_t)\, R^T r \quad (B.6), \qquad
              h_{t+1} = g\bigl(h_t, [W^T w_t,\ v_t]\bigr) \quad (B.7)

    Regions are a set: their order has no effect, and their number may be another one in each call.
    With R = 0, or without regions, it is the `Captioner`.

    Args:
        vocabulary_size, feature_size, embedding_size, hidden_size: as of `Captioner`.
        region_size: D, of a region's descriptor.
        region_state: whether there is θ_rh, by which the state chooses regions.
        feedback: which distribution pools what is fed back: "marginal" p(r | h_t), "conditional"
            p(r | w_t, h_t), or "none" for no feedback.
        chunk_size: words whose scores are in memory at a time; all of them by default.

    Attributes:
        word_region: θ_wr, as a map from the words' vectors to [D].
        region_weights: θ_rh as a map from the state to [D], or None.
        region_bias: θ_r, [D], which starts at zero.

    Raises:
        ValueError: for a size below 1, or another feedback.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.2;
        Pedersoli, Lucas, Schmid and Verbeek, "Areas of attention for image captioning", 2017.

    Example:
        >>> import torch
        >>> from gencore.models import RegionCaptioner
        >>> model = RegionCaptioner(
        ...     20, feature_size=8, embedding_size=16, hidden_size=32, region_size=4
        ... )
        >>> features, regions = torch.randn(3, 8), torch.randn(3, 49, 4)
        >>> captions = torch.tensor([[5, 2, 0], [7, 0, 0], [3, 4, 9]])
        >>> model(captions, features, regions).shape
        torch.Size([3, 3])
        >>> model.attention(captions, features, regions).shape  # where it looks at each word
        torch.Size([3, 3, 49])
        >>> model.caption(features, regions, beam_width=4, max_length=10).words.shape
        torch.Size([3, 4, 10])
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        feature_size: int,
        embedding_size: int,
        hidden_size: int,
        region_size: int,
        region_state: bool = True,
        feedback: RegionFeedback = "marginal",
        chunk_size: int | None = None,
    ) -> None:
        check_positive("RegionCaptioner", region_size=region_size)
        check_choice("RegionCaptioner", "feedback", feedback, get_args(RegionFeedback))
        if chunk_size is not None:
            check_positive("RegionCaptioner", chunk_size=chunk_size)
        self.region_size, self.feedback, self.chunk_size = region_size, feedback, chunk_size
        super().__init__(
            vocabulary_size, feature_size=feature_size, embedding_size=embedding_size,
            hidden_size=hidden_size,
        )  # fmt: skip
        self.word_region = nn.Linear(embedding_size, region_size, bias=False)
        self.region_weights = (
            nn.Linear(hidden_size, region_size, bias=False) if region_state else None
        )
        self.region_bias = nn.Parameter(torch.zeros(region_size))

    def _input_size(self, embedding_size: int) -> int:
        return embedding_size + (0 if self.feedback == "none" else self.region_size)

    def step(
        self, words: Tensor | None, state: State, regions: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """As of `Captioner`, with regions [N, R, D]; the state is h, and the pooled regions where
        they are those of the marginal."""
        regions = self._given(regions)
        hidden = self._next_hidden(words, state, regions)
        marginals = self._marginals(hidden, regions)
        if self.feedback != "marginal":
            return marginals.log_word, (hidden,)
        return marginals.log_word, (hidden, _pool(marginals.region, regions))  # (B.6)

    def _next_hidden(self, words: Tensor | None, state: State, regions: Tensor) -> Tensor:
        """(B.7)"""
        hidden = state[0]
        if words is None:
            return hidden
        inputs = self.embedding(words)
        if self.feedback == "marginal":
            inputs = torch.cat([inputs, state[1]], 1)
        elif self.feedback == "conditional":
            pooled = _pool(self.region_given_word(words, hidden, regions), regions)
            inputs = torch.cat([inputs, pooled], 1)
        return self.cell(inputs, hidden)

    def joint_log_prob(self, hidden: Tensor, regions: Tensor) -> Tensor:
        """log p(w, r | h) of states [N, H] and regions [N, R, D], R > 0, as a table [N, V, R]."""
        vectors = self.word_region(self.embedding.weight)
        score = (vectors @ regions.mT) + self.word_scores(hidden)[..., None]
        score = score + self._region_scores(hidden, regions)[:, None]
        return score.flatten(1).log_softmax(1).view_as(score)

    def region_given_word(self, words: Tensor, hidden: Tensor, regions: Tensor) -> Tensor:
        """p(r | w, h) of words [N], states [N, H] and regions [N, R, D], [N, R]."""
        vectors = self.word_region(self.embedding(words))
        score = (regions @ vectors[..., None])[..., 0] + self._region_scores(hidden, regions)
        return score.softmax(1)

    def attention(
        self, captions: Tensor, features: Tensor, regions: Tensor, *, given_word: bool = False
    ) -> Tensor:
        """p(r | h_t) at each word of captions [N, T], or with `given_word` p(r | w_t, h_t),
        [N, T, R].

        Raises:
            ValueError: as of the call.
        """
        self._check_captions(captions)
        self._check(features, regions)
        state, attention = self.initial_state(features), []
        for time in range(captions.shape[1]):
            words = captions[:, time - 1] if time else None
            _, state = self.step(words, state, regions)
            if given_word:
                weights = self.region_given_word(captions[:, time], state[0], regions)
            else:
                weights = self._marginals(state[0], regions).region
            attention.append(weights)
        return torch.stack(attention, 1)

    def _marginals(self, hidden: Tensor, regions: Tensor) -> WordRegionMarginals:
        return word_region_marginals(
            self.word_scores(hidden), self._region_scores(hidden, regions),
            self.word_region(self.embedding.weight), regions, chunk_size=self.chunk_size,
        )  # fmt: skip

    def _region_scores(self, hidden: Tensor, regions: Tensor) -> Tensor:
        """R(θ_rh h + θ_r), [N, R]."""
        weights = self.region_bias.expand(len(regions), -1)
        if self.region_weights is not None:
            weights = weights + self.region_weights(hidden)
        return (regions @ weights[..., None])[..., 0]

    def _given(self, regions: Tensor | None) -> Tensor:
        if regions is None:
            raise ValueError("RegionCaptioner: regions is None; expected [N, R, D]")
        return regions

    def _check_regions(self, features: Tensor, regions: Tensor | None) -> None:
        regions = self._given(regions)
        expected = (len(features), self.region_size)
        if regions.ndim != 3 or (len(regions), regions.shape[2]) != expected:
            raise ValueError(
                f"RegionCaptioner: regions have shape {list(regions.shape)}; expected "
                f"[{expected[0]}, R, {expected[1]}]"
            )

    def extra_repr(self) -> str:
        return f"feedback={self.feedback!r}"


def _pool(weights: Tensor, regions: Tensor) -> Tensor:
    """Σ_r p(r) R_r, [N, D]."""
    return (weights.to(regions.dtype)[:, None] @ regions)[:, 0]
