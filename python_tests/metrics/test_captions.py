"""Measures of captions against definitions, values by hand, and areas."""

import math
import sys

import pytest
import torch

from gencore.metrics import attention_correctness, bleu, cider_d, rouge_l
from gencore.models import cell_boxes

CAPTIONS = [
    "a red disc above a blue square",
    "the white cat sits on a very long sofa",
    "two dogs run along the beach",
]


class TestBLEU:
    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("sacrebleu")

    def test_l40_identical_captions_have_1(self):
        assert bleu(CAPTIONS, [[caption] for caption in CAPTIONS]) == 1
        assert bleu(CAPTIONS, [["something else", caption] for caption in CAPTIONS]) == 1

    def test_clipped_precision_of_the_paper(self):
        """Papineni et al. 2002, section 2.1: the standard example of 2/7, and one of 17/18."""
        references = [["the cat is on the mat", "there is a cat on the mat"]]
        assert bleu(["the " * 7], references, max_order=1) == pytest.approx(2 / 7)
        references = [
            [
                "It is a guide to action that ensures that the military will forever heed Party "
                "commands",
                "It is the guiding principle which guarantees the military forces always being "
                "under the command of the Party",
                "It is the practical guide for the army always to heed the directions of the party",
            ]
        ]
        candidate = (
            "It is a guide to action which ensures that the military always obeys the commands of "
            "the party"
        )
        assert bleu([candidate], references, max_order=1) == pytest.approx(17 / 18)

    def test_the_geometric_mean_and_the_brevity_penalty(self):
        """Four words of a reference of six: p₁ = 4/4 and p₂ = 3/3; then three of four: 3/4, 1/3."""
        assert bleu(["a b c d"], [["a b c d e f"]], max_order=2) == pytest.approx(math.exp(-0.5))
        assert bleu(["a b x d"], [["a b c d"]], max_order=2) == pytest.approx((3 / 4 / 3) ** 0.5)

    def test_counts_are_those_of_the_corpus(self):
        """Not the mean of the captions' scores: 2 of 2 and 1 of 4 words are 3 of 6."""
        found = bleu(["a b", "c x y z"], [["a b"], ["c d e f"]], max_order=1)
        assert found == pytest.approx(3 / 6)

    def test_without_a_common_ngram_it_is_0(self):
        assert bleu(["a b c d"], [["d c b a"]]) == 0

    def test_numbers_of_references_may_differ(self):
        references = [["x y", "a b c d"], ["e f g h"], ["one", "two", "i j k l"]]
        assert bleu(["a b c d", "e f g h", "i j k l"], references) == 1


def test_without_the_package_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ModuleNotFoundError, match=r"bleu needs .*gencore\[language\]"):
        bleu(["a"], [["a"]])


class TestCIDEr:
    def test_identical_captions_have_10(self):
        found = cider_d(CAPTIONS, [[caption] for caption in CAPTIONS])
        torch.testing.assert_close(found, torch.full((3,), 10.0, dtype=torch.float64))

    def test_one_order_by_hand(self):
        """Two images; "a" is in the references of both and weighs nothing, "b" and "c" log 2 each.
        The candidate a b b x has (0, 2, 0, 1)·log 2 over (a, b, c, x); the reference a b c
        (0, 1, 1, 0)·log 2; the product of the smaller entries with the reference is 1·log² 2, and
        the lengths differ by 1."""
        found = cider_d(["a b b x", "d"], [["a b c"], ["a d"]], max_order=1, sigma=2.0)
        cosine = 1 / (math.sqrt(5) * math.sqrt(2))
        second = 1.0  # d against (a, d): a weighs nothing
        penalty = math.exp(-1 / 8)
        expected = torch.tensor([10 * penalty * cosine, 10 * penalty * second])
        torch.testing.assert_close(found, expected.double())

    def test_orders_and_references_are_averaged(self):
        """b c has both words and the pair of "b c", and no more than the words of "c b"."""
        found = cider_d(["b c", "d e"], [["b c", "c b"], ["d e"]], max_order=2)
        torch.testing.assert_close(found, torch.tensor([7.5, 10.0]).double())

    def test_what_every_image_has_counts_for_nothing(self):
        assert cider_d(["a b"], [["a b"]]).item() == 0
        assert cider_d(["a", "a"], [["a b"], ["a c"]]).tolist() == [0, 0]

    def test_how_many_images_have_a_word_and_not_how_many_references(self):
        once = cider_d(["a b", "c d"], [["a b"], ["c b"]], max_order=1)
        often = cider_d(["a b", "c d"], [["a b", "a b", "a b"], ["c b", "c b"]], max_order=1)
        torch.testing.assert_close(once, often)

    def test_an_infinite_sigma_has_no_penalty(self):
        found = cider_d(["d", "b"], [["a d"], ["a b"]], max_order=1, sigma=math.inf)
        torch.testing.assert_close(found, torch.tensor([10.0, 10.0]).double())


class TestROUGE:
    def test_identical_captions_have_1(self):
        found = rouge_l(CAPTIONS, [["nothing in common", caption] for caption in CAPTIONS])
        torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64))

    def test_the_sentences_of_the_paper(self):
        """Lin 2004, section 3.1, with β = 1: 3/4, 2/4 and, for the other order of words, 2/4."""
        reference = [["police killed the gunman"]] * 3
        candidates = [
            "police kill the gunman", "the gunman kill police", "the gunman police killed"
        ]  # fmt: skip
        found = rouge_l(candidates, reference, beta=1.0)
        torch.testing.assert_close(found, torch.tensor([0.75, 0.5, 0.5]).double())

    def test_precision_and_recall_are_weighed_by_beta(self):
        """Two of two words, and two of five: P = 1, R = 2/5."""
        found = rouge_l(["a d"], [["a b c d e"]], beta=2.0).item()
        assert found == pytest.approx(5 * 1 * 0.4 / (0.4 + 4 * 1))

    def test_an_empty_caption_has_0(self):
        assert rouge_l([""], [["a"]]).item() == 0


@pytest.mark.parametrize("measure", [bleu, cider_d, rouge_l])
@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "0 candidates"),
        (["a"], [["a"], ["b"]], "1 candidates and 2 lists"),
        (["a"], [[]], r"lists of \[0\] references"),
        ("a", [["a"]], "a string is where a list is expected"),
        (["a"], ["a"], "a string is where a list is expected"),
    ],
)
def test_captions_that_do_not_fit(measure, candidates, references, message):
    with pytest.raises(ValueError, match=f"{measure.__name__}: .*{message}"):
        measure(candidates, references)


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match="cider_d: sigma is 0"):
        cider_d(["a"], [["a"]], sigma=0)
    with pytest.raises(ValueError, match="rouge_l: beta is 0"):
        rouge_l(["a"], [["a"]], beta=0)
    for measure in (bleu, cider_d):
        with pytest.raises(ValueError, match=f"{measure.__name__}: max_order is 0"):
            measure(["a"], [["a"]], max_order=0)


class TestAttentionCorrectness:
    def test_l40_uniform_attention_has_the_part_of_the_area(self):
        """Boxes that cut through the cells of grids of several sizes."""
        torch.manual_seed(0)
        corners = torch.rand(50, 2, 2, dtype=torch.float64).sort(1).values
        boxes = corners.flatten(1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        for height, width in ((1, 1), (2, 5), (7, 7)):
            regions = cell_boxes(height, width).double()
            uniform = torch.full((len(regions),), 1 / len(regions), dtype=torch.float64)
            torch.testing.assert_close(attention_correctness(uniform, regions, boxes), area)

    def test_it_is_the_mass_of_points(self):
        """A fine grid of points with each region's density, counted inside the box."""
        regions = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.1, 0.95, 0.6], [0.1, 0.7, 0.2, 1]])
        weights, box = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.15, 0.2, 0.7, 0.8])
        num = 1000
        places = (torch.arange(num) + 0.5) / num
        total = 0.0
        for weight, (left, top, right, bottom) in zip(weights, regions, strict=True):
            inside = [
                ((places > max(a, c)) & (places < min(b, d))).sum().item() / num
                for a, b, c, d in ((left, right, box[0], box[2]), (top, bottom, box[1], box[3]))
            ]
            total += weight.item() * inside[0] * inside[1] / ((right - left) * (bottom - top))
        found = attention_correctness(weights, regions, box)
        assert found.item() == pytest.approx(float(total), abs=0.01)

    def test_all_none_and_half(self):
        cell = cell_boxes(2, 2)
        attention = torch.tensor([0.0, 1.0, 0.0, 0.0])
        boxes = torch.tensor(
            [[0.4, 0, 1, 0.6], [0, 0, 0.5, 1], [0.5, 0.25, 1, 1], [0.7, 0, 0.7, 1]]
        )
        torch.testing.assert_close(
            attention_correctness(attention, cell, boxes), torch.tensor([1.0, 0, 0.5, 0])
        )

    def test_words_of_captions_of_images(self):
        """Attention [N, T, R], regions of images [N, 1, R, 4] and boxes [N, T, 4]."""
        attention = torch.rand(2, 3, 4).softmax(2)
        regions, boxes = cell_boxes(2, 2).repeat(2, 1, 1, 1), torch.rand(2, 3, 2).repeat(1, 1, 2)
        boxes[..., 2:] += 0.3
        found = attention_correctness(attention, regions, boxes)
        assert found.shape == (2, 3)
        alone = attention_correctness(attention[1, 2], cell_boxes(2, 2), boxes[1, 2])
        torch.testing.assert_close(found[1, 2], alone)

    @pytest.mark.parametrize(
        ("attention", "regions", "box", "message"),
        [
            (torch.ones(3), cell_boxes(2, 2), torch.zeros(4), r"attention \[3\]"),
            (torch.tensor(1.0), cell_boxes(1, 1), torch.zeros(4), r"attention \[\]"),
            (torch.ones(1), cell_boxes(1, 1), torch.zeros(3), r"boxes \[3\]"),
            (torch.ones(1), torch.zeros(1, 4), torch.zeros(4), "left < right"),
            (torch.ones(1), cell_boxes(1, 1), torch.tensor([1.0, 0, 0, 1]), "the wrong way round"),
        ],
    )
    def test_what_does_not_fit(self, attention, regions, box, message):
        with pytest.raises(ValueError, match=f"attention_correctness: .*{message}"):
            attention_correctness(attention, regions, box)
