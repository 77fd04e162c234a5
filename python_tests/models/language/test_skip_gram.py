"""Skip-gram with negative sampling on corpora whose optimum is known."""

import math

import pytest
import torch

from gencore.models import SkipGram, context_counts, shifted_pmi, skip_gram_pairs

CORPUS = [int(digit) for digit in "001120310213302103220123101132"]
SIZE = 4


def counts():
    """All pairs occur, as the finite optimum asks for."""
    found = context_counts(*skip_gram_pairs(CORPUS, window=3), SIZE)
    assert found.min() > 0
    return found


def train(model, loss, steps=60):
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_grad=1e-12, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


@pytest.mark.parametrize(("negatives", "power"), [(1, 1.0), (5, 1.0), (3, 0.75), (2, 0.0)])
def test_b24_the_optimum_is_the_shifted_pmi(negatives, power):
    """With vectors as long as the vocabulary, trained by the exact expectation."""
    torch.manual_seed(0)
    pairs = counts()
    model = SkipGram(SIZE, SIZE, counts=pairs.sum(0), negatives=negatives, power=power).double()
    with torch.no_grad():
        model.noise.copy_(pairs.sum(0).double() ** power)
        model.noise.div_(model.noise.sum().clone())
        model.contexts.weight.normal_()
        model.words.weight.normal_()
    train(model, lambda: model.expected_loss(pairs), steps=500)
    with torch.no_grad():
        products = model.words.weight @ model.contexts.weight.T
    total, expected = pairs.sum().item(), torch.empty(SIZE, SIZE, dtype=torch.float64)
    weights = [pairs[:, c].sum().item() ** power for c in range(SIZE)]
    for w in range(SIZE):
        for c in range(SIZE):
            joint, word = pairs[w, c].item() / total, pairs[w].sum().item() / total
            ratio = joint / (word * weights[c] / sum(weights))
            expected[w, c] = math.log(ratio) - math.log(negatives)
    torch.testing.assert_close(products, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(shifted_pmi(pairs, negatives=negatives, power=power), expected)


def test_short_vectors_are_worse_than_the_optimum_and_better_than_none():
    pairs, losses = counts(), []
    for size in (1, SIZE):
        torch.manual_seed(0)
        model = SkipGram(SIZE, size, counts=pairs.sum(0), negatives=2, power=1.0).double()
        with torch.no_grad():
            model.contexts.weight.normal_()
        train(model, lambda model=model: model.expected_loss(pairs), steps=300)
        losses.append(model.expected_loss(pairs).item())
    assert losses[1] < losses[0] - 1e-4 < 3 * math.log(2)


def test_the_expected_loss_is_the_mean_of_the_losses():
    """Over all pairs of the corpus and all draws of the negative contexts, each with its
    probability."""
    torch.manual_seed(1)
    words, contexts = skip_gram_pairs(CORPUS, window=3)
    pairs = context_counts(words, contexts, SIZE)
    model = SkipGram(SIZE, 3, counts=pairs.sum(0), negatives=2)
    with torch.no_grad():
        model.contexts.weight.normal_()
    mean = 0.0
    for first in range(SIZE):
        for second in range(SIZE):
            drawn = torch.tensor([[first, second]]).expand(len(words), 2)
            probability = model.noise[first] * model.noise[second]
            mean = mean + probability * model(words, contexts, drawn).mean()
    torch.testing.assert_close(model.expected_loss(pairs), mean)


def test_the_loss_by_hand():
    model = SkipGram(SIZE, 2, counts=torch.ones(SIZE), negatives=2)
    with torch.no_grad():
        model.words.weight.copy_(torch.tensor([[1.0, 0], [0, 2], [0, 0], [0, 0]]))
        model.contexts.weight.copy_(torch.tensor([[0.0, 1], [3, 1], [-1, 0], [0, 0]]))
    found = model(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([[2, 3], [1, 1]]))
    expected = [
        math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1)) + math.log(2),
        math.log(1 + math.exp(-2)) + 2 * math.log(1 + math.exp(2)),
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_at_the_beginning_every_pair_has_a_probability_of_one_half():
    model = SkipGram(SIZE, 3, counts=torch.ones(SIZE), negatives=4)
    losses = model(torch.arange(SIZE), torch.arange(SIZE))
    torch.testing.assert_close(losses, torch.full((SIZE,), 5 * math.log(2)))


def test_negative_contexts_have_their_distribution():
    """Frequencies of 40,000 draws, within four deviations; what does not occur is never drawn."""
    given = torch.tensor([16, 0, 81, 1])
    model = SkipGram(SIZE, 2, counts=given, negatives=4)
    expected = torch.tensor([8.0, 0, 27, 1]) / 36
    torch.testing.assert_close(model.noise, expected)
    drawn = model.draw_negatives(10_000, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (10_000, 4)
    found = drawn.flatten().bincount(minlength=SIZE) / 40_000
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / 40_000).sqrt()).all()


def test_pairs_are_the_words_around_each():
    words, contexts = skip_gram_pairs(CORPUS, window=2)
    expected = sorted(
        (CORPUS[i], CORPUS[j])
        for i in range(len(CORPUS))
        for j in range(len(CORPUS))
        if 0 < abs(i - j) <= 2
    )
    assert sorted(zip(words.tolist(), contexts.tolist(), strict=True)) == expected
    assert [len(part) for part in skip_gram_pairs([1], window=2)] == [0, 0]
    assert [len(part) for part in skip_gram_pairs([], window=2)] == [0, 0]
    assert len(skip_gram_pairs([1, 2], window=9)[0]) == 2


def test_words_in_the_same_places_have_near_vectors():
    """Sentences "0 x 1" with x of 2 and 3, and "4 y 5" with y of 6 and 7: 2 is nearest to 3."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(2, (400, 2), generator=generator)
    sentences = torch.stack([4 * kinds[:, 0], 2 + 4 * kinds[:, 0] + kinds[:, 1]], 1)
    sentences = torch.cat([sentences, sentences[:, :1] + 1], 1)
    words, contexts = skip_gram_pairs(sentences.flatten(), window=1)
    torch.manual_seed(0)
    model = SkipGram(8, 4, counts=contexts.bincount(minlength=8), negatives=2)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(60):
        loss = model(words, contexts, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.nearest(torch.tensor([2, 3, 6, 7]), 1)[:, 0].tolist() == [3, 2, 7, 6]


def test_pairs_that_do_not_occur():
    found = shifted_pmi(torch.tensor([[2, 0, 0], [0, 2, 0]]))
    assert found[0, 0].item() == pytest.approx(math.log(2))
    assert found[0, 1] == -math.inf
    assert found[:, 2].isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"counts": torch.ones(3)}, r"counts have shape \[3\]; expected \[4\]"),
        ({"counts": torch.zeros(4)}, "not all 0"),
        ({"counts": torch.tensor([1, 2, -1, 1])}, "not negative"),
    ],
)
def test_options_that_do_not_fit(options, message):
    given = {"vocabulary_size": 4, "embedding_size": 2, "counts": torch.ones(4), **options}
    with pytest.raises(ValueError, match=f"SkipGram: .*{message}"):
        SkipGram(**given)


def test_calls_that_do_not_fit():
    model = SkipGram(4, 2, counts=torch.ones(4))
    with pytest.raises(ValueError, match=r"SkipGram: words \[3\], contexts \[2\]"):
        model(torch.zeros(3).long(), torch.zeros(2).long())
    with pytest.raises(ValueError, match=r"negatives \[2, 5\]; expected"):
        model(torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(2, 5).long())
    with pytest.raises(ValueError, match=r"expected_loss: counts have shape \[4\]"):
        model.expected_loss(torch.ones(4))
    with pytest.raises(ValueError, match="skip_gram_pairs: window is 0"):
        skip_gram_pairs([1, 2], window=0)
    with pytest.raises(ValueError, match=r"corpus has shape \[1, 2\]"):
        skip_gram_pairs(torch.ones(1, 2).long(), window=1)
    with pytest.raises(ValueError, match="shifted_pmi: counts"):
        shifted_pmi(torch.zeros(2, 2))
