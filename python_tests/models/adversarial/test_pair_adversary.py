"""Discriminators at several scales, feature matching, and the losses of pairs of images."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gencore.models import MultiScalePatchDiscriminator, PairAdversary
from gencore.nn import UNetGenerator
from gencore.objectives import feature_matching_loss


def discriminator(in_channels=4, **options):
    torch.manual_seed(0)
    settings = {"num_discriminators": 2, "num_scales": 1, "width": 4, "normalization": "none"}
    return MultiScalePatchDiscriminator(in_channels, **(settings | options))


def every_layer(scores):
    return [features for of_one in scores for features in of_one.features]


class TestFeatureMatching:
    def test_b17_equal_inputs_have_no_loss(self):
        """Of the features of all layers at all scales."""
        network, x = discriminator(3), torch.rand(2, 3, 16, 16)
        real, fake = every_layer(network(x)), every_layer(network(x))
        assert len(real) == 4
        assert feature_matching_loss(real, fake) == 0
        moved = every_layer(network(x + 0.1))
        assert feature_matching_loss(real, moved) > 0

    def test_it_is_the_equation(self):
        torch.manual_seed(0)
        shapes = [(2, 3, 4, 5), (2, 7)]
        real, fake = ([torch.randn(s, dtype=torch.float64) for s in shapes] for _ in range(2))
        expected = 0.5 * (real[0] - fake[0]).abs().sum() / 120
        expected = expected + 2 * (real[1] - fake[1]).abs().sum() / 14
        torch.testing.assert_close(feature_matching_loss(real, fake, [0.5, 2.0]), expected)

    def test_the_features_of_data_get_no_gradient(self):
        real, fake = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
        feature_matching_loss([real], [fake]).backward()
        assert real.grad is None
        torch.testing.assert_close(fake.grad, torch.full((3,), 1 / 3))

    def test_what_does_not_fit_is_told(self):
        x, y = torch.zeros(2, 3), torch.zeros(2, 4)
        with pytest.raises(ValueError, match="expected the same, of at least one layer"):
            feature_matching_loss([], [])
        with pytest.raises(ValueError, match=r"shapes \[\[2, 3\]\] and fake of \[\[2, 4\]\]"):
            feature_matching_loss([x], [y])
        with pytest.raises(ValueError, match="got 2 weights; expected 1, one a layer"):
            feature_matching_loss([x], [x], [1.0, 1.0])
        with pytest.raises(ValueError, match="a weight must be finite and not negative"):
            feature_matching_loss([x], [x], [-1.0])


class TestScales:
    def test_a_coarser_one_sees_the_means_of_four_pixels(self):
        network = discriminator(1, num_discriminators=3)
        x = torch.rand(2, 1, 32, 64)
        means = x.unflatten(2, (-1, 4)).unflatten(4, (-1, 4)).mean((3, 5))
        coarsest, _, finest = network(x)
        torch.testing.assert_close(coarsest.logits, network.discriminators[0](means))
        torch.testing.assert_close(finest.logits, network.discriminators[2](x))

    def test_a_coarser_one_sees_more(self):
        """Its patches have twice the side."""
        network = discriminator(1).double()
        sizes = []
        for scale in range(2):
            x = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
            logits = network(x)[scale].logits
            logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
            sizes.append(int((x.grad[0, 0] != 0).any(0).sum()))
        assert sizes == [32, 16]

    def test_sides_that_cannot_be_halved(self):
        with pytest.raises(ValueError, match="expected multiples of 4 for 3 scales"):
            discriminator(1, num_discriminators=3)(torch.zeros(1, 1, 16, 18))
        with pytest.raises(ValueError, match="num_discriminators is 0"):
            discriminator(1, num_discriminators=0)


class TestPairs:
    @pytest.fixture
    def generator(self):
        torch.manual_seed(0)
        return UNetGenerator(1, 3, num_scales=2, width=4, normalization="none", dropout=0.0)

    @pytest.fixture
    def adversary(self):
        return PairAdversary(
            discriminator(), adversarial_weight=0.5, reconstruction_weight=3.0, feature_weight=2.0
        )

    @pytest.fixture
    def pair(self):
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.rand(2, c, 16, 16, generator=generator) for c in (1, 3))

    def test_the_losses_are_sums_over_discriminators(self, generator, adversary, pair):
        x, y = pair
        made = generator(x)
        real, fake = (adversary.discriminator(torch.cat([x, other], 1)) for other in (y, made))
        terms = adversary.generator_loss(x, y, made)
        adversarial = sum(functional.softplus(-scores.logits).mean() for scores in fake)
        torch.testing.assert_close(terms.adversarial, adversarial)
        torch.testing.assert_close(terms.reconstruction, (made - y).abs().mean())
        matching = sum(
            (a - b).abs().mean()
            for r, f in zip(real, fake, strict=True)
            for a, b in zip(r.features, f.features, strict=True)
        )
        torch.testing.assert_close(terms.feature_matching, matching)
        expected = 0.5 * adversarial + 3 * terms.reconstruction + 2 * matching
        torch.testing.assert_close(terms.loss, expected)
        expected = sum(
            functional.softplus(-r.logits).mean() + functional.softplus(f.logits).mean()
            for r, f in zip(real, fake, strict=True)
        )
        found = adversary(x, y, made)
        torch.testing.assert_close(found["loss"], expected)
        for name, scores in (("real_score", real), ("fake_score", fake)):
            means = [each.logits.mean() for each in scores]
            torch.testing.assert_close(found[name], sum(means) / 2)

    def test_gradients_reach_one_side_alone(self, generator, adversary, pair):
        x, y = pair
        sides = generator, adversary
        for loss, (reached, left) in (
            (adversary.generator_loss(x, y, generator(x)).loss, sides),
            (adversary(x, y, generator(x))["loss"], sides[::-1]),
        ):
            generator.zero_grad()
            adversary.zero_grad()
            loss.backward()
            assert all(weight.grad is not None for weight in reached.parameters())
            assert all(weight.grad is None for weight in left.parameters())

    def test_losses_of_scores_in_half_precision_are_not(self, adversary, pair):
        x, y = pair
        with torch.autocast("cpu", torch.bfloat16):
            terms = adversary.generator_loss(x, y, y)
            loss = adversary(x, y, y)["loss"]
        assert {term.dtype for term in (*terms, loss)} == {torch.float32}

    def test_it_teaches_a_translation(self):
        """Which of two colours an image of one channel has is in its sign; 150 steps."""
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
        adversary = PairAdversary(
            discriminator(3, num_discriminators=1), reconstruction_weight=10.0
        )
        optimizers = [torch.optim.Adam(part.parameters(), 0.02) for part in (generator, adversary)]
        for _ in range(150):
            x = torch.randn(16, 1, 8, 8)
            y = torch.cat([x.relu(), (-x).relu()], 1)
            translated = generator(x)
            terms = adversary.generator_loss(x, y, translated)
            losses = terms.loss, adversary(x, y, translated)["loss"]
            for optimizer, loss in zip(optimizers, losses, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        assert terms.reconstruction < 0.1  # 0.4 for black images
        assert all(loss.isfinite() for loss in losses)

    def test_what_does_not_fit_is_told(self, generator, adversary, pair):
        x, y = pair
        message = r"translated has shape \[2, 3, 16, 16\]; expected \[2, 1, 16, 16\]"
        for loss in (adversary, adversary.generator_loss):
            with pytest.raises(ValueError, match=message):
                loss(x, x, y)
        for name in ("adversarial_weight", "reconstruction_weight", "feature_weight"):
            with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
                PairAdversary(discriminator(), **{name: -1.0})
