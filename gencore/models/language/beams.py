"""Beam search: the most probable sequences of words under a model that predicts the next one."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gencore.sizes import check_positive

__all__ = ["Beams", "beam_search"]

State: TypeAlias = tuple[Tensor, ...]
Step: TypeAlias = Callable[[Tensor | None, State], tuple[Tensor, State]]


class Beams(NamedTuple):
    """The best sequences that were found for each input, the best first."""

    words: Tensor
    """int64 [N, K, T]; after its end a sequence is filled with the end's word."""

    log_prob: Tensor
    """log p of the sequences, [N, K]; -inf where there are fewer than K."""

    length: Tensor
    """Their words, with that of the end if they have reached it, int64 [N, K]."""


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    *,
    stop: int,
    beam_width: int,
    max_length: int,
    length_power: float = 0.0,
) -> Beams:
    r"""The K sequences of largest score that a search of width K finds, for N inputs at once.

    .. math:: \mathrm{score}(w_1 \dots w_n) = \frac{1}{n^\alpha} \sum_{t=1}^n
              \log p(w_t \mid w_{<t})

    A sequence ends with the word `stop`, or is cut after `max_length` words; so the probabilities
    of all sequences sum to 1. Of each input, the search keeps the K best beginnings, extends each
    by every word and keeps the K best of those and of the sequences that have ended. Width 1 is the
    greedy choice of each word; a width of as many as there are beginnings is an exhaustive search.

    Args:
        step: the model. It is given the last words, int64 [N·K], or None at the beginning, and the
            state, and returns log p of the next word, [N·K, V], and the new state. Row i·K + k is
            beam k of input i, so that what stays the same all the time need not be in the state.
        state: tensors of N rows at the beginning. The search repeats each row K times and later
            chooses rows.
        stop: the word that ends a sequence.
        beam_width: K.
        max_length: T.
        length_power: α. With 0 the score is log p, which favours short sequences; with 1 its mean
            over the words.

    Raises:
        ValueError: for a state without tensors or with tensors of different numbers of rows, a
            `step` that returns another shape, or a `stop` that is no word.

    References:
        Graves, "Sequence transduction with recurrent neural networks", 2012; the power of the
        length is that of Wu et al., "Google's neural machine translation system", 2016, (14), with
        n in place of (5 + n)/6.

    Example:
        >>> import torch
        >>> from gencore.models import beam_search
        >>> table = torch.tensor([[0.1, 0.5, 0.4], [0.3, 0.4, 0.3], [0.9, 0.1, 0.0]]).log()
        >>> def step(words, state):  # a Markov chain, whose word 0 ends it
        ...     return table[state[0][:, 0] if words is None else words], state
        >>> found = beam_search(step, (torch.tensor([[0]]),), stop=0, beam_width=2, max_length=3)
        >>> found.words[0].tolist(), found.log_prob.exp()
        ([[2, 0, 0], [1, 1, 1]], tensor([[0.3600, 0.0800]]))
    """
    check_positive("beam_search", beam_width=beam_width, max_length=max_length)
    sizes = {len(part) if part.ndim else 0 for part in state}
    if len(sizes) != 1 or sizes == {0}:
        shapes = [list(part.shape) for part in state]
        raise ValueError(
            f"beam_search: the state's tensors have shapes {shapes}; expected one or more, all of "
            "as many rows as there are inputs"
        )
    (num,), device = sizes, state[0].device
    state = tuple(part.repeat_interleave(beam_width, 0) for part in state)
    first_rows = beam_width * torch.arange(num, device=device)[:, None]
    words = torch.zeros(num, beam_width, 0, dtype=torch.int64, device=device)
    length = torch.zeros(num, beam_width, dtype=torch.int64, device=device)
    ended = torch.zeros(num, beam_width, dtype=torch.bool, device=device)
    log_prob: Tensor | None = None
    for time in range(max_length):
        log_next, state = step(words[..., -1].flatten() if time else None, state)
        log_next = _checked(log_next, num * beam_width, stop).unflatten(0, (num, beam_width))
        vocabulary = log_next.shape[2]
        if log_prob is None:
            # All beams are alike at the beginning: one of them goes on.
            log_prob = log_next.new_full((num, beam_width), -torch.inf)
            log_prob[:, 0] = 0
        is_stop = torch.arange(vocabulary, device=device) == stop
        only_stop = torch.zeros_like(log_next[0, 0]).masked_fill(~is_stop, -torch.inf)
        log_next = torch.where(ended[..., None], only_stop, log_next)
        extended = log_prob[..., None] + log_next
        next_length = length + (~ended).long()
        score = extended / next_length[..., None].to(extended.dtype) ** length_power
        chosen = score.flatten(1).topk(beam_width, dim=1).indices
        beam, word = chosen // vocabulary, chosen % vocabulary
        words = torch.cat([_take(words, beam), word[..., None]], 2)
        log_prob = extended.flatten(1).gather(1, chosen)
        length = next_length.gather(1, beam)
        ended = word == stop
        state = tuple(part[(first_rows + beam).flatten()] for part in state)
        if bool(ended.all()):
            break
    assert log_prob is not None
    return Beams(words, log_prob, length)


def _take(words: Tensor, beam: Tensor) -> Tensor:
    """The beams' words [N, K, t] of the beams [N, K]."""
    return words.gather(1, beam[..., None].expand(-1, -1, words.shape[2]))


def _checked(log_next: Tensor, rows: int, stop: int) -> Tensor:
    if log_next.ndim != 2 or len(log_next) != rows:
        raise ValueError(
            f"beam_search: step returned log-probabilities of shape {list(log_next.shape)}; "
            f"expected [{rows}, V]"
        )
    if not 0 <= stop < log_next.shape[1]:
        raise ValueError(
            f"beam_search: stop is {stop}; expected a word, 0 to {log_next.shape[1] - 1}"
        )
    return log_next
