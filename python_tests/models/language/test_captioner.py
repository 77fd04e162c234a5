"""Captioners against loops over words and regions, and the invariants of the joint distribution."""

import math

import pytest
import torch
from torch import nn

from gencore.models import Captioner, ImageCaptioner, RegionCaptioner, word_region_marginals

WORDS, REGIONS, SIZE = 5, 4, 3
SIZES = {"feature_size": 3, "embedding_size": 4, "hidden_size": 6}
FEEDBACKS = ["marginal", "conditional", "none"]


def baseline(seed=0):
    torch.manual_seed(seed)
    return randomised(Captioner(WORDS, **SIZES).double())


def attending(seed=0, **options):
    torch.manual_seed(seed)
    return randomised(RegionCaptioner(WORDS, **SIZES, region_size=SIZE, **options).double())


def randomised(model):
    """Every parameter, also those that start at zero."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model


def data(num=3, length=6):
    torch.manual_seed(9)
    captions = torch.tensor([[3, 1, 0, 0, 0, 0], [2, 4, 4, 1, 3, 2], [0, 0, 0, 0, 0, 0]])
    regions = torch.randn(num, REGIONS, SIZE, dtype=torch.float64)
    return captions[:num, :length], torch.randn(num, 3, dtype=torch.float64), regions


def joint_by_loops(model, hidden, regions):
    """p(w, r | h) of one image, as (B.4) and (B.5) have it, term by term."""
    words, size = model.embedding.weight, len(regions)
    table = torch.zeros(WORDS, size, dtype=torch.float64)
    for w in range(WORDS):
        for r in range(size):
            score = words[w] @ model.word_state.weight @ hidden
            score = score + words[w] @ model.word_region.weight.T @ regions[r]
            if model.region_weights is not None:
                score = score + regions[r] @ model.region_weights.weight @ hidden
            score = score + words[w] @ model.word_bias + regions[r] @ model.region_bias
            table[w, r] = score.detach().exp()
    return table / table.sum()


def by_loops(model, caption, feature, regions):
    """log p of a caption's words, and p(r | h) and p(r | w, h) at each of them."""
    hidden, log_prob, marginal, conditional = model.start.weight @ feature, [], [], []
    for word in caption.tolist():
        joint = joint_by_loops(model, hidden, regions)
        log_prob.append(math.log(joint[word].sum()))
        marginal.append(joint.sum(0))
        conditional.append(joint[word] / joint[word].sum())
        fed = [model.embedding.weight[word]]
        if model.feedback != "none":
            weights = (marginal if model.feedback == "marginal" else conditional)[-1]
            fed.append(sum(p * region for p, region in zip(weights, regions, strict=True)))
        hidden = model.cell(torch.cat(fed), hidden)
    return torch.tensor(log_prob).double(), torch.stack(marginal), torch.stack(conditional)


class TestCaptioner:
    def test_the_likelihood_is_that_of_the_steps(self):
        """(B.1) to (B.3), with 0 after the first end."""
        model, (captions, features, _) = baseline(), data()
        log_prob = model(captions, features)
        for row, caption in enumerate(captions.tolist()):
            hidden, ended = model.start.weight @ features[row], False
            for time, word in enumerate(caption):
                weights = (
                    model.embedding.weight @ (model.word_state.weight @ hidden + model.word_bias)
                ).exp()
                expected = 0.0 if ended else (weights[word] / weights.sum()).log().item()
                assert log_prob[row, time].item() == pytest.approx(expected)
                ended = ended or word == 0
                hidden = model.cell(model.embedding.weight[word], hidden)

    def test_words_before_the_end_and_the_end_count(self):
        captions, _, _ = data()
        assert baseline().is_word(captions).sum(1).tolist() == [3, 6, 1]

    def test_what_is_after_the_end_has_no_effect(self):
        model, (captions, features, _) = baseline(), data()
        changed = captions.clone()
        changed[0, 3:] = 4
        torch.testing.assert_close(model(changed, features), model(captions, features))

    def test_draws_have_the_probabilities(self):
        """The frequencies of 20,000 captions of two words at most, within four deviations."""
        model, num = baseline(3), 20_000
        features = torch.randn(1, 3, dtype=torch.float64)
        drawn = model.sample(
            features.expand(num, -1), max_length=2, generator=torch.Generator().manual_seed(0)
        )
        assert not drawn[drawn[:, 0] == 0, 1].any()
        texts = torch.tensor([[0, 0], *([a, b] for a in range(1, WORDS) for b in range(WORDS))])
        with torch.no_grad():
            p = model(texts, features.expand(len(texts), -1)).sum(1).exp()
        counts = (drawn[:, None] == texts).all(2).sum(0)
        assert counts.sum() == num
        assert ((counts - num * p).abs() <= 4 * (num * p * (1 - p)).sqrt() + 1).all()

    def test_it_learns_a_caption_of_each_image(self):
        torch.manual_seed(0)
        model = Captioner(WORDS, feature_size=3, embedding_size=8, hidden_size=16)
        captions, features = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0], [2, 1, 0, 0]]), torch.eye(3)
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(60):
            loss = -model(captions, features).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = model.caption(features, beam_width=3, max_length=5)
        assert found.words[:, 0, :4].tolist() == captions.tolist()

    @pytest.mark.parametrize(
        ("captions", "features", "regions", "message"),
        [
            (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3), None, r"expected \[N, T\]"),
            (torch.full((2, 3), 5), torch.zeros(2, 3), None, "words from 0 to 4"),
            (torch.full((2, 3), -1), torch.zeros(2, 3), None, "words from 0 to 4"),
            (torch.zeros(2, 3).long(), torch.zeros(2, 4), None, r"\[2, 4\]; expected \[N, 3\]"),
            (torch.zeros(2, 3).long(), torch.zeros(2, 3), torch.zeros(2, 1, 3), "use RegionCap"),
        ],
    )
    def test_what_does_not_fit(self, captions, features, regions, message):
        with pytest.raises(ValueError, match=f"Captioner: .*{message}"):
            Captioner(WORDS, **SIZES)(captions, features, regions)

    def test_captions_are_integers(self):
        with pytest.raises(TypeError, match=r"captions are torch.float32; expected int64"):
            Captioner(WORDS, **SIZES)(torch.zeros(2, 3), torch.zeros(2, 3))


class TestAttention:
    @pytest.mark.parametrize("feedback", FEEDBACKS)
    @pytest.mark.parametrize("region_state", [True, False])
    def test_l38_it_is_the_dense_reference(self, feedback, region_state):
        model = attending(feedback=feedback, region_state=region_state)
        captions, features, regions = data()
        log_prob = model(captions, features, regions)
        marginal = model.attention(captions, features, regions)
        conditional = model.attention(captions, features, regions, given_word=True)
        counted = model.is_word(captions)
        for row in range(len(captions)):
            expected = by_loops(model, captions[row], features[row], regions[row])
            torch.testing.assert_close(log_prob[row], expected[0] * counted[row])
            torch.testing.assert_close(marginal[row], expected[1])
            torch.testing.assert_close(conditional[row], expected[2])

    def test_l38_the_joint_distribution_and_its_marginals(self):
        model, (_, _, regions) = attending(), data()
        hidden = torch.randn(3, 6, dtype=torch.float64)
        joint = model.joint_log_prob(hidden, regions).exp()
        assert joint.shape == (3, WORDS, REGIONS)
        torch.testing.assert_close(joint.sum((1, 2)), torch.ones(3, dtype=torch.float64))
        for row in range(3):
            torch.testing.assert_close(joint[row], joint_by_loops(model, hidden[row], regions[row]))
        marginals = model._marginals(hidden, regions)
        torch.testing.assert_close(marginals.log_word.exp(), joint.sum(2))
        torch.testing.assert_close(marginals.region, joint.sum(1))
        for word in range(WORDS):
            torch.testing.assert_close(
                model.region_given_word(torch.full((3,), word), hidden, regions),
                joint[:, word] / joint[:, word].sum(1, keepdim=True),
            )

    @pytest.mark.parametrize("feedback", FEEDBACKS)
    def test_l38_the_order_of_regions_has_no_effect(self, feedback):
        model, (captions, features, regions) = attending(feedback=feedback), data()
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(
            model(captions, features, regions[:, order]), model(captions, features, regions)
        )
        torch.testing.assert_close(
            model.attention(captions, features, regions[:, order]),
            model.attention(captions, features, regions)[..., order],
        )

    @pytest.mark.parametrize("feedback", FEEDBACKS)
    @pytest.mark.parametrize("number", [0, 1, 4])
    def test_l38_without_descriptions_it_is_the_baseline(self, feedback, number):
        """R = 0 and no regions at all."""
        model, other, (captions, features, _) = attending(feedback=feedback), baseline(), data()
        other.load_state_dict(
            {
                name: value[:, : SIZES["embedding_size"]] if name == "cell.weight_ih" else value
                for name, value in model.state_dict().items()
                if name in other.state_dict()
            }
        )
        regions = torch.zeros(3, number, SIZE, dtype=torch.float64)
        torch.testing.assert_close(model(captions, features, regions), other(captions, features))
        found, expected = (
            m.caption(features, *given, beam_width=4, max_length=5)
            for m, given in ((model, (regions,)), (other, ()))
        )
        assert torch.equal(found.words, expected.words)

    def test_one_region_has_all_the_attention(self):
        model, (captions, features, regions) = attending(), data()
        attention = model.attention(captions, features, regions[:, :1])
        torch.testing.assert_close(attention, torch.ones_like(attention))

    def test_a_region_twice_shares_its_attention(self):
        """The joint distribution then counts it twice: twice the attention in all."""
        model, (captions, features, regions) = attending(feedback="none"), data()
        doubled = torch.cat([regions, regions[:, :1]], 1)
        attention = model.attention(captions[:, :1], features, doubled)
        torch.testing.assert_close(attention[..., 0], attention[..., -1])
        single = model.attention(captions[:, :1], features, regions)[..., 0]
        torch.testing.assert_close(
            attention[..., 0] + attention[..., -1], 2 * single / (1 + single)
        )

    @pytest.mark.parametrize("feedback", FEEDBACKS)
    def test_l38_gradients(self, feedback):
        model, (captions, features, regions) = attending(feedback=feedback), data(2, 3)
        features, regions = features[:2].requires_grad_(), regions[:2].requires_grad_()
        parameters = [
            p for name, p in model.named_parameters() if not name.startswith(("cell", "start"))
        ]

        def likelihood(features, regions, *_):
            return model(captions[:2], features, regions).sum(1)

        assert torch.autograd.gradcheck(likelihood, (features, regions, *parameters))

    @pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 5, 9])
    def test_words_in_parts(self, chunk_size):
        """The same marginals and gradients."""
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, WORDS), (2, REGIONS), (WORDS, SIZE), (2, REGIONS, SIZE))
        given = [
            torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
            for shape in shapes
        ]
        whole, parts = (word_region_marginals(*given, chunk_size=c) for c in (None, chunk_size))
        torch.testing.assert_close(parts, whole)
        weights = [torch.randn(part.shape, generator=generator).double() for part in whole]
        gradients = [
            torch.autograd.grad(
                sum((w * part).sum() for w, part in zip(weights, found, strict=True)), given
            )
            for found in (whole, parts)
        ]
        torch.testing.assert_close(*gradients)

    def test_large_scores_do_not_overflow(self):
        found = word_region_marginals(
            torch.tensor([[500.0, -500.0]]), torch.tensor([[0.0, 300.0]]), torch.zeros(2, 1),
            torch.zeros(1, 2, 1),
        )  # fmt: skip
        torch.testing.assert_close(found.log_word, torch.tensor([[0.0, -1000.0]]))
        torch.testing.assert_close(found.region, torch.tensor([[0.0, 1.0]]))

    def test_half_precision_sums_in_float32(self):
        torch.manual_seed(0)
        model = RegionCaptioner(WORDS, **SIZES, region_size=SIZE)
        captions, features, regions = data()
        expected = model(captions, features.float(), regions.float())
        found = model.bfloat16()(captions, features.bfloat16(), regions.bfloat16())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)

    @pytest.mark.parametrize(
        ("regions", "message"),
        [
            (None, "regions is None"),
            (torch.zeros(2, 4, 5), r"\[2, 4, 5\]; expected \[2, R, 3\]"),
            (torch.zeros(3, 4, 3), r"\[3, 4, 3\]; expected \[2, R, 3\]"),
        ],
    )
    def test_what_does_not_fit(self, regions, message):
        model = RegionCaptioner(WORDS, **SIZES, region_size=SIZE)
        with pytest.raises(ValueError, match=f"RegionCaptioner: .*{message}"):
            model(torch.zeros(2, 3).long(), torch.zeros(2, 3), regions)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"region_size": 0}, "region_size is 0"),
            ({"chunk_size": 0}, "chunk_size is 0"),
            ({"feedback": "hard"}, "feedback is 'hard'; expected one of"),
            ({"hidden_size": -1}, "hidden_size is -1"),
        ],
    )
    def test_sizes_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"RegionCaptioner: {message}"):
            RegionCaptioner(WORDS, **{**SIZES, "region_size": SIZE, **options})

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ValueError, match="word_region_marginals: word_scores"):
            word_region_marginals(
                torch.zeros(1, 3), torch.zeros(1, 2), torch.eye(3), torch.zeros(1, 3, 3)
            )


class TestImages:
    @pytest.mark.parametrize("regions", ["none", "grid", "transformer", "windows"])
    def test_every_parameter_learns(self, regions):
        torch.manual_seed(0)
        model = ImageCaptioner(WORDS, (1, 16, 20), channels=8, regions=regions)
        captions, images = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.rand(2, 1, 16, 20)
        with torch.no_grad():  # a transformer whose weight of zero lets no gradient through
            if model.transformer is not None:
                model.transformer.localisation[2].weight.normal_(0, 0.1)
        (-model(captions, images).sum()).backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []
        assert model.caption(images, beam_width=2, max_length=4).words.shape[:2] == (2, 2)
        assert model.sample(images, max_length=3).shape == (2, 3)
        if regions != "none":
            attention = model.attention(captions, images)
            assert model.region_boxes(images).shape == (*attention.shape[::2], 4)

    def test_where_transformed_regions_are(self):
        """Twice the identity takes 6 cells of a grid, cut at the edges; a shift moves them, and a
        turn by 45° makes the boxes around them √2 times as large."""
        model = ImageCaptioner(WORDS, (1, 32, 32), channels=8, regions="transformer")
        images = torch.rand(1, 1, 32, 32)
        bias = model.transformer.localisation[2].bias
        boxes = model.region_boxes(images)[0].view(8, 8, 4)
        torch.testing.assert_close(boxes[3, 4], torch.tensor([1.5, 0.5, 7.5, 6.5]) / 8)
        torch.testing.assert_close(boxes[0, 7], torch.tensor([4.5, 0, 8, 3.5]) / 8)
        with torch.no_grad():
            bias.copy_(torch.tensor([1.0, 0, 1, 0, 1, -0.5]))
        boxes = model.region_boxes(images)[0].view(8, 8, 4)
        torch.testing.assert_close(boxes[3, 4], torch.tensor([4.0, 1.5, 7.0, 4.5]) / 8)
        with torch.no_grad():
            bias.copy_(torch.tensor([0.5, -0.5, 0, 0.5, 0.5, 100]))
        boxes = model.region_boxes(images)
        assert (boxes[..., 2:] > boxes[..., :2]).all()
        torch.testing.assert_close((boxes[0, 3, 2] - boxes[0, 3, 0]) * 8, torch.tensor(3.0))

    def test_other_boxes_take_the_place_of_windows(self):
        model = ImageCaptioner(WORDS, (1, 16, 16), channels=8, regions="windows")
        captions, images = torch.tensor([[1, 2, 0]]), torch.rand(1, 1, 16, 16)
        windows = model.region_boxes(images)
        torch.testing.assert_close(model(captions, images, windows), model(captions, images))
        assert model.attention(captions, images, windows[:, :2]).shape == (1, 3, 2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"channels": 12}, "channels is 12"),
            ({"image_shape": (3, 30, 32)}, r".*image_shape is \(3, 30, 32\)"),
            ({"regions": "boxes"}, "regions is 'boxes'; expected one of none, grid"),
        ],
    )
    def test_options_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"ImageCaptioner: {message}"):
            ImageCaptioner(WORDS, options.pop("image_shape", (3, 32, 32)), **options)

    def test_calls_that_do_not_fit(self):
        model = ImageCaptioner(WORDS, (1, 16, 16), channels=8, regions="none")
        images, captions = torch.rand(1, 1, 16, 16), torch.zeros(1, 2).long()
        with pytest.raises(ValueError, match="so that there is no attention"):
            model.attention(captions, images)
        with pytest.raises(ValueError, match="so that there are no boxes"):
            model.region_boxes(images)
        with pytest.raises(ValueError, match='the regions are "none"'):
            model(captions, images, torch.zeros(1, 1, 4))
        with pytest.raises(ValueError, match=r"\[1, 1, 16, 20\]; expected \[N, 1, 16, 16\]"):
            model(captions, torch.rand(1, 1, 16, 20))
