"""Beam search against enumeration: greedy choices, the most probable sequence, rows of a batch."""

import math
from itertools import product

import pytest
import torch

from gencore.models import Captioner, beam_search

STOP, WORDS, LENGTH = 0, 4, 4


def captioner(seed=0, num=3):
    torch.manual_seed(seed)
    model = Captioner(WORDS, feature_size=3, embedding_size=5, hidden_size=6).double()
    with torch.no_grad():  # words that depend on what came before
        for parameter in model.parameters():
            parameter.mul_(3)
    return model, torch.randn(num, 3, dtype=torch.float64)


def sequences():
    """All that end before or at the last word, and all that are cut there, filled with zeros."""
    found = [
        (*words, STOP) + (STOP,) * (LENGTH - length)
        for length in range(1, LENGTH + 1)
        for words in product(range(1, WORDS), repeat=length - 1)
    ]
    return torch.tensor(found + list(product(range(1, WORDS), repeat=LENGTH)))


def exhaustive(model, feature):
    """log p of all sequences of one image."""
    texts = sequences()
    with torch.no_grad():
        return texts, model(texts, feature.expand(len(texts), -1)).sum(1)


def search(model, features, **options):
    return model.caption(features, **{"beam_width": 100, "max_length": LENGTH, **options})


def test_sequences_are_a_distribution():
    model, features = captioner()
    for feature in features:
        texts, log_prob = exhaustive(model, feature)
        assert len({tuple(text) for text in texts.tolist()}) == len(texts) == 121
        assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_l37_width_1_is_greedy(seed):
    model, features = captioner(seed)
    found = search(model, features, beam_width=1, max_length=7)
    for row, feature in enumerate(features):
        hidden, words, total = model.start(feature), [], 0.0
        for _ in range(7):
            scores = model.embedding.weight @ (model.word_state.weight @ hidden + model.word_bias)
            probabilities = scores.exp() / scores.exp().sum()
            words.append(int(probabilities.argmax()))
            total += math.log(probabilities.max())
            if words[-1] == STOP:
                break
            hidden = model.cell(model.embedding.weight[words[-1]], hidden)
        filled = words + [STOP] * (found.words.shape[2] - len(words))
        assert found.words[row, 0].tolist() == filled
        assert found.log_prob[row, 0].item() == pytest.approx(total)
        assert found.length[row, 0] == len(words)


@pytest.mark.parametrize("seed", range(5))
def test_l37_a_wide_beam_is_the_exhaustive_search(seed):
    """All sequences, in the order of their probabilities."""
    model, features = captioner(seed)
    found = search(model, features, beam_width=121)
    for row, feature in enumerate(features):
        texts, log_prob = exhaustive(model, feature)
        order = log_prob.argsort(descending=True)
        torch.testing.assert_close(found.log_prob[row], log_prob[order])
        # Equal numbers may change places; these are none.
        assert log_prob[order].diff().abs().min() > 1e-12
        assert torch.equal(found.words[row], texts[order])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_scores_of_lengths(power):
    """The best of log p / length^α, by enumeration; −log p grows with each word, so that the power
    of 0 never has a longer best sequence than the power of 2."""
    model, features = captioner(3)
    found = search(model, features, beam_width=121, length_power=power)
    for row, feature in enumerate(features):
        texts, log_prob = exhaustive(model, feature)
        length = (texts != STOP).sum(1) + (texts[:, -1] == STOP).long()
        best = (log_prob / length.double() ** power).argmax()
        assert torch.equal(found.words[row, 0], texts[best])
        assert found.length[row, 0] == length[best]
        torch.testing.assert_close(found.log_prob[row, 0], log_prob[best])


def test_a_wider_beam_finds_what_a_narrow_one_misses():
    """The greedy first word leads to words that are all improbable."""
    table = torch.tensor([[0.1, 0.5, 0.4], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05]]).log()

    def step(words, state):
        rows = len(state[0])
        return table[torch.zeros(rows, dtype=torch.int64) if words is None else words], state

    found = [
        beam_search(step, (torch.zeros(1, 1),), stop=0, beam_width=width, max_length=2)
        for width in (1, 2)
    ]
    assert [beams.words[0, 0].tolist()[0] for beams in found] == [1, 2]
    assert found[1].log_prob[0, 0].exp().item() == pytest.approx(0.36)


def test_each_input_is_searched_by_itself():
    model, features = captioner(1, num=4)
    together = search(model, features, beam_width=3)
    for row in range(4):
        alone = search(model, features[row : row + 1], beam_width=3)
        num = alone.words.shape[2]
        assert torch.equal(together.words[row, :, :num], alone.words[0])
        assert not together.words[row, :, num:].any()
        torch.testing.assert_close(together.log_prob[row], alone.log_prob[0])


def test_the_state_goes_with_its_beam():
    """A state that is the words so far is always that of the beam it belongs to."""
    log_p = torch.randn(20, 5, dtype=torch.float64).log_softmax(1)

    def step(words, state):
        history = state[0]
        if words is not None:
            history = torch.cat([history, words[:, None]], 1)
        hashed = (history * 7 ** torch.arange(history.shape[1])).sum(1) % 20
        return log_p[hashed], (history,)

    start = torch.tensor([[3], [4]])
    found = beam_search(step, (start,), stop=0, beam_width=3, max_length=6)
    for row in range(2):
        for words, log_prob, length in zip(*(part[row] for part in found), strict=True):
            history, total = start[row].tolist(), 0.0
            for word in words[:length].tolist():
                hashed = sum(entry * 7**i for i, entry in enumerate(history)) % 20
                total += log_p[hashed, word].item()
                history.append(word)
            assert log_prob.item() == pytest.approx(total)


def test_fewer_sequences_than_beams():
    """One word that is no end: two sequences of two words or fewer, and one that is cut."""

    def step(words, state):
        return torch.tensor([0.25, 0.75]).log().expand(len(state[0]), 2), state

    found = beam_search(step, (torch.zeros(1, 1),), stop=0, beam_width=5, max_length=2)
    assert found.words[0, :3].tolist() == [[1, 1], [0, 0], [1, 0]]
    torch.testing.assert_close(found.log_prob[0].exp(), torch.tensor([9 / 16, 1 / 4, 3 / 16, 0, 0]))
    assert found.length[0, :3].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width is 0; expected at least 1"),
        ({"max_length": 0}, "max_length is 0; expected at least 1"),
        ({"stop": 5}, "stop is 5; expected a word, 0 to 3"),
        ({"state": ()}, r"shapes \[\]; expected one or more"),
        ({"state": (torch.zeros(2), torch.zeros(3))}, r"shapes \[\[2\], \[3\]\]; expected"),
        ({"step": lambda _, state: (torch.zeros(3), state)}, r"shape \[3\]; expected \[4, V\]"),
    ],
)
def test_what_does_not_fit(options, message):
    def step(_, state):
        return torch.zeros(len(state[0]), 4), state

    given = {
        "step": step, "state": (torch.zeros(2, 1),), "stop": 0, "beam_width": 2, "max_length": 3,
        **options,
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"beam_search: .*{message}"):
        beam_search(given.pop("step"), given.pop("state"), **given)
