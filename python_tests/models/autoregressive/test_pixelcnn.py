"""PixelCNN, Gated PixelCNN and PixelCNN++: exact causality, normalisation, sampling."""

import math

import pytest
import torch
from testing.pixel_model_testing import all_images, seen_levels
from torch import nn

from gencore.models import GatedPixelCNN, PixelCNN, PixelCNNPlusPlus, receptive_field
from gencore.nn import (
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    QuantizedLogistic,
)


def pixelcnn(shape, **options):
    return PixelCNN(shape, **{"channels": 6, "num_layers": 3, "levels": 2, **options})


def gated(shape, **options):
    return GatedPixelCNN(shape, **{"channels": 6, "num_layers": 3, "levels": 2, **options})


def plusplus(shape, **options):
    options = {"num_resnets": 2, "num_scales": 1, "levels": 2, "dropout": 0.0, **options}
    return PixelCNNPlusPlus(shape, **{"channels": 6, **options})


MODELS = {"PixelCNN": pixelcnn, "GatedPixelCNN": gated, "PixelCNNPlusPlus": plusplus}
LIKELIHOODS = {
    "categorical": Categorical,
    "mixture": lambda levels: DiscretizedLogisticMixture(levels, num_components=3),
    "independent": lambda levels: DiscretizedLogisticMixture(levels, 2, coupled=False),
    "logistic": DiscretizedLogistic,
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def contexts(num, channels, shape):
    """No context, a vector, a map."""
    return [None, torch.randn(num, channels), torch.randn(num, channels, *shape[1:])]


def drawn(model):
    """The model with larger weights, so that its distribution is far from uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


class TestCausality:
    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    @pytest.mark.parametrize("context_channels", [0, 3])
    def test_nothing_sees_what_comes_later(self, make, context_channels):
        """∂θ_i/∂x_j is exactly 0 for j ≥ i, and not 0 for the neighbours before i."""
        shape = (3, 4, 5)
        model = make(shape, channels=18, levels=4, context_channels=context_channels)
        for context in contexts(8, 3, shape)[1:] if context_channels else [None]:
            seen, before = seen_levels(model, torch.randint(4, (8, *shape)), context)
            assert not seen[~before].any()
            groups, pixels = model.channel_groups, 20
            seen = seen.view(pixels, groups, pixels, groups)
            for pixel in range(pixels):
                row, column = divmod(pixel, 5)
                if column:
                    assert seen[pixel, :, pixel - 1].all()
                if row:
                    assert seen[pixel, :, pixel - 5].all()
                assert seen[pixel, :, pixel].equal(torch.ones(groups, groups).tril(-1).bool())

    @pytest.mark.parametrize(
        "options",
        [
            {"num_scales": 3},
            {"num_scales": 2, "weight_norm": True},
            {"num_scales": 3, "context_channels": 2},
            {"num_scales": 3, "context_channels": 2, "deep_context": True},
        ],
    )
    def test_several_resolutions_see_all_that_comes_before(self, options):
        shape = (2, 8, 8)
        model = plusplus(shape, **options)
        context = torch.randn(2, 2, 8, 8) if "context_channels" in options else None
        seen, before = seen_levels(model, torch.randint(2, (2, *shape)), context)
        assert not seen[~before].any()
        assert seen[before].all()

    def test_channels_that_do_not_see_each_other(self):
        for make in (pixelcnn, gated):
            model = make((2, 3, 3), channel_groups=1)
            seen, before = seen_levels(model, torch.randint(2, (2, 2, 3, 3)))
            assert seen.shape == (9, 9)
            assert not seen[~before].any()

    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    def test_the_first_pixel_depends_on_the_context_alone(self, make):
        shape = (1, 4, 4)
        model = make(shape, context_channels=2)
        context = torch.randn(2, 2)
        one, other = (model(torch.randint(2, (2, *shape)), context)[:, :, 0, 0] for _ in range(2))
        assert torch.equal(one, other)
        assert not torch.allclose(one[0], one[1])


class TestBlindSpot:
    """Each beside the set that its kernels can reach, step by step."""

    @staticmethod
    def offsets(model, pixel):
        field = receptive_field(model, pixel)
        rows, columns = field.nonzero().T
        return {
            (r - pixel[0], c - pixel[1])
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        }

    def test_a_stack_of_masked_convolutions_has_one(self):
        """Each 3×3 kernel moves at most one pixel to the right, and one row up as it does."""
        model = PixelCNN((1, 9, 15), 4, 3, levels=2, first_kernel_size=3)
        reach = 4
        expected = {(-i, j) for i in range(1, reach + 1) for j in range(-reach, i + 1)}
        expected |= {(0, -j) for j in range(1, reach + 1)}
        assert self.offsets(model, (6, 6)) == expected
        assert (-1, 2) not in expected

    def test_two_stacks_have_none(self):
        model = GatedPixelCNN((1, 9, 15), 4, 3, levels=2, first_kernel_size=5)
        reach = 2 + 1 + 1
        expected = {(-i, j) for i in range(1, reach + 1) for j in range(-reach, reach + 1)}
        expected |= {(0, -j) for j in range(1, reach + 1)}
        assert self.offsets(model, (6, 6)) == expected

    def test_shifted_streams_have_none(self):
        """At a single resolution: in all rows above the same columns, without a gap."""
        seen = self.offsets(plusplus((1, 9, 31)), (5, 15))
        rows = [sorted(column for r, column in seen if r == row) for row in range(-5, 1)]
        assert rows[:5] == [list(range(-10, 10))] * 5
        assert rows[5] == list(range(-9, 0))

    def test_several_resolutions_see_the_whole_past(self):
        model = plusplus((1, 8, 8), num_scales=3)
        for pixel in (0, 7, 8, 37, 42, 63):
            field = receptive_field(model, divmod(pixel, 8)).flatten()
            assert torch.equal(field, torch.arange(64) < pixel)

    def test_channels_of_the_pixel_are_seen(self):
        assert receptive_field(pixelcnn((2, 4, 4)), (2, 1))[2, 1]
        assert not receptive_field(pixelcnn((2, 4, 4), channel_groups=1), (2, 1))[2, 1]

    def test_of_a_conditional_model(self):
        model = gated((1, 4, 4), context_channels=3)
        assert receptive_field(model, (3, 3), torch.randn(1, 3)).sum() == 15
        with pytest.raises(ValueError, match=r"pixel is \(4, 0\); expected a row below 4"):
            receptive_field(model, (4, 0))


class TestNormalisation:
    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_all_binary_images_add_up_to_one(self, make, likelihood):
        shape = (1, 3, 3)
        model = drawn(make(shape, likelihood=LIKELIHOODS[likelihood](2), context_channels=3))
        images = all_images(model)
        assert len(images) == 512
        for context in contexts(1, 3, shape)[1:]:
            probabilities = model.log_prob(images, context.expand(512, *context.shape[1:])).exp()
            assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
        model = drawn(make(shape, likelihood=LIKELIHOODS[likelihood](2)))
        probabilities = model.log_prob(images).exp()
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
        assert probabilities.max() > 1.2 / 512

    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    @pytest.mark.parametrize("likelihood", ["categorical", "mixture"])
    @pytest.mark.parametrize(("shape", "levels"), [((2, 2, 2), 2), ((1, 2, 3), 3)])
    def test_channels_and_levels_add_up_to_one(self, make, likelihood, shape, levels):
        model = drawn(make(shape, levels=None, likelihood=LIKELIHOODS[likelihood](levels)))
        total = model.log_prob(all_images(model)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)

    def test_coarse_bins(self):
        likelihood = QuantizedLogistic(4, 2, channels=1)
        model = drawn(gated((1, 2, 3), levels=None, likelihood=likelihood))
        images = all_images(model)
        images = images[(images % 2 == 0).flatten(1).all(1)]  # of the bins' first levels
        assert model.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-5)

    def test_several_resolutions(self):
        model = drawn(plusplus((1, 2, 4), num_scales=2))
        total = model.log_prob(all_images(model)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (pixelcnn, {}),
        (gated, {}),
        (gated, {"num_layers": 1, "channel_groups": 1}),
        (plusplus, {"num_scales": 3, "weight_norm": True}),
        (plusplus, {"num_scales": 3, "deep_context": True}),
    ],
)
def test_every_parameter_is_trained(make, options):
    """One without a gradient would hold up training on several devices."""
    model = make((3, 8, 8), context_channels=2, **options)
    model.log_prob(torch.randint(2, (4, 3, 8, 8)), torch.randn(4, 2)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_grey_levels_of_either_integer_have_one_probability():
    model = pixelcnn((1, 4, 4), levels=256)
    x = torch.tensor([0, 255]).repeat(2, 8).view(2, 1, 4, 4)
    assert torch.equal(model.log_prob(x), model.log_prob(x.byte()))
    with pytest.raises(ValueError, match="x has levels from 0 to 256; expected 0 to 255"):
        model.log_prob(x + (x == 255))


class TestContext:
    @pytest.mark.parametrize(
        "make", [*MODELS.values(), lambda shape, **o: plusplus(shape, deep_context=True, **o)]
    )
    def test_a_vector_is_a_constant_map(self, make):
        shape = (1, 4, 4)
        model = make(shape, num_scales=3, context_channels=2) if make is plusplus else make(
            shape, context_channels=2
        )  # fmt: skip
        x, vector = torch.randint(2, (2, *shape)), torch.randn(2, 2)
        constant = vector[:, :, None, None].expand(-1, -1, 4, 4)
        torch.testing.assert_close(model.log_prob(x, vector), model.log_prob(x, constant))
        assert not torch.allclose(model.log_prob(x, vector), model.log_prob(x, -vector))

    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    def test_a_map_is_seen_where_it_is_and_around(self, make):
        """By its own pixel and before any pixel, as an image that is known as a whole."""
        shape = (1, 4, 4)
        model = make(shape, context_channels=1).double()
        context = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        parameters = model(torch.randint(2, (1, *shape)), context)
        (gradient,) = torch.autograd.grad(parameters[0, :, 2, 1].sum(), context)
        assert gradient[0, 0, 2, 1] != 0

    def test_a_deep_context_is_seen_from_before(self):
        """Its features see around: the first pixel knows of the last."""
        model = plusplus((1, 4, 4), context_channels=1, deep_context=True).double()
        context = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        parameters = model(torch.randint(2, (1, 1, 4, 4)), context)
        (gradient,) = torch.autograd.grad(parameters[0, :, 0, 0].sum(), context)
        assert gradient[0, 0, 3, 3] != 0

    def test_wrong_contexts_are_named(self):
        x = torch.randint(2, (2, 1, 4, 4))
        with pytest.raises(ValueError, match="PixelCNN: got a context, but context_channels is 0"):
            pixelcnn((1, 4, 4)).log_prob(x, torch.zeros(2, 3))
        model = gated((1, 4, 4), context_channels=3)
        with pytest.raises(ValueError, match=r"expected a context \[N, 3\] or \[N, 3, 4, 4\], got"):
            model.log_prob(x)
        with pytest.raises(ValueError, match=r"GatedPixelCNN: the context has shape \[2, 4\]"):
            model.log_prob(x, torch.zeros(2, 4))
        with pytest.raises(TypeError, match=r"the context is torch\.int64; expected"):
            model.log_prob(x, torch.zeros(2, 3, dtype=torch.int64))


class TestSampling:
    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    @pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2)])
    def test_naive_samples_have_the_probabilities(self, make, shape):
        model = drawn(make(shape))
        images, num = all_images(model), 20_000
        with torch.no_grad():
            p = model.log_prob(images).exp()
        generator = torch.Generator().manual_seed(1)
        samples = model.sample(num, method="naive", generator=generator)
        places = 2 ** torch.arange(images[0].numel() - 1, -1, -1)
        counts = (samples.flatten(1) * places).sum(1).bincount(minlength=len(images))
        error = 4.5 * (p * (1 - p) / num).sqrt() + 1e-6
        assert ((counts / num - p).abs() < error).all()

    @pytest.mark.parametrize("likelihood", ["categorical", "mixture"])
    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    def test_both_methods_make_the_same_choices(self, make, likelihood):
        """From the same uniforms; but one may lie within rounding of where two levels meet."""
        shape, num = (3, 4, 4), 16
        options = {"num_scales": 2} if make is plusplus else {}
        model = drawn(
            make(
                shape,
                levels=None,
                likelihood=LIKELIHOODS[likelihood](64),
                context_channels=2,
                **options,
            )
        )
        given = torch.randint(64, (num, *shape))
        known = torch.rand(4, 4) < 0.3
        for context in contexts(num, 2, shape)[1:]:
            for chosen in ({}, {"given": given, "known": known}):
                one, other = (
                    model.sample(
                        num,
                        context,
                        method=method,
                        generator=torch.Generator().manual_seed(1),
                        **chosen,
                    )
                    for method in ("naive", "incremental")
                )
                assert (one == other).flatten(1).all(1).sum() >= num - 1

    def test_samples_follow_their_context(self):
        model = drawn(gated((1, 2, 2), context_channels=1))
        context = torch.tensor([[-3.0], [3.0]])
        with torch.no_grad():
            ones = [
                (model.log_prob(all_images(model), row.expand(16, 1)).exp() @ all_images(model)
                 .flatten(1).float())
                for row in context
            ]  # fmt: skip
        num = 10_000
        samples = model.sample(
            2 * num,
            context.repeat_interleave(num, 0),
            method="naive",
            generator=torch.Generator().manual_seed(1),
        )
        for part, expected in zip(samples.flatten(1).float().chunk(2), ones, strict=True):
            assert ((part.mean(0) - expected).abs() < 4.5 * 0.5 / math.sqrt(num)).all()

    @pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
    def test_completions_keep_what_is_known(self, make):
        """Of the rest the probabilities are those given what is known before it."""
        shape, num = (2, 2, 2), 20_000
        model = drawn(make(shape))
        known = torch.tensor([[True, True], [False, True]])
        given = torch.tensor([[[1, 0], [0, 1]], [[0, 1], [0, 1]]]).expand(num, -1, -1, -1)
        samples = model.sample(
            num, method="naive", given=given, known=known,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        assert torch.equal(samples[:, :, known], given[:, :, known])
        # The pixel that is drawn, [2, num], and its probabilities from all its values.
        pixel = samples[:, :, 1, 0]
        images = given[:4].clone()
        images[:, :, 1, 0] = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        with torch.no_grad():
            first = (
                model.log_prob(images, first_pixel=2) - model.log_prob(images, first_pixel=3)
            ).exp()
        counts = (2 * pixel[:, 0] + pixel[:, 1]).bincount(minlength=4)
        assert first.sum().item() == pytest.approx(1, abs=1e-5)
        error = 4.5 * (first * (1 - first) / num).sqrt() + 1e-6
        assert ((counts / num - first).abs() < error).all()


class TestWeightNorm:
    def test_it_changes_no_function(self):
        normalised = plusplus((1, 4, 4), num_scales=2, weight_norm=True)
        torch.manual_seed(0)
        plain = plusplus((1, 4, 4), num_scales=2)
        x = torch.randint(2, (3, 1, 4, 4))
        torch.testing.assert_close(plain.log_prob(x), normalised.log_prob(x))

    def test_a_start_from_data_gives_outputs_of_scale_one(self):
        model = plusplus((3, 8, 8), num_scales=2, levels=256, weight_norm=True)
        x = torch.randint(256, (16, 3, 8, 8))
        model.initialize(x)
        outputs = []
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda m, _, y: outputs.append((m, y)))
        parameters = model(x)
        assert len(outputs) > 20
        small = 0
        for _, y in outputs:
            std, mean = y.std((0, 2, 3), correction=0), y.mean((0, 2, 3))
            scale = 0.1 if std.mean() < 0.5 else 1.0
            small += scale < 1
            torch.testing.assert_close(std, torch.full_like(std, scale), rtol=1e-3, atol=0)
            torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
        assert small == 2 * (2 + 2 + 2 + 3)  # a block of each stream has one
        assert parameters.std() < 1.1
        with pytest.raises(ValueError, match="initialize: the weights are not normalised"):
            plusplus((1, 4, 4)).initialize(torch.randint(2, (2, 1, 4, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelCNN((3, 8, 8), 10), "channels is 10; expected a positive multiple of chann"),
        (lambda: PixelCNN((1, 8, 8), 0), "PixelCNN: channels is 0"),
        (lambda: PixelCNN((1, 8, 8), num_layers=0), "num_layers is 0; expected at least 1"),
        (lambda: PixelCNN((1, 8, 8), kernel_size=2), "kernel_size is 2; expected odd and at least"),
        (lambda: GatedPixelCNN((1, 8, 8), kernel_size=1), "kernel_size is 1; .* at least 3"),
        (
            lambda: GatedPixelCNN((1, 8, 8), first_kernel_size=4),
            "first_kernel_size is 4; expected odd and at least 3",
        ),
        (lambda: pixelcnn((1, 8, 8), likelihood=Categorical(4)), "levels is 2, but the likelihood"),
        (
            lambda: GatedPixelCNN(
                (3, 8, 8), likelihood=DiscretizedLogisticMixture(), channel_groups=3
            ),
            "channel_groups is 3; expected 1 for DiscretizedLogisticMixture",
        ),
        (lambda: plusplus((1, 6, 8), num_scales=3), "3 scales need sides that are multiples of 4"),
        (lambda: plusplus((1, 8, 8), dropout=1.0), r"dropout is 1\.0; expected from 0 to below 1"),
        (lambda: plusplus((1, 8, 8), deep_context=True), "deep_context needs a context"),
        (lambda: plusplus((1, 8, 8), context_channels=-1), "context_channels is -1; expected at"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bytes_have_256_levels():
    """Compared as bytes, 256 would be 0, and every level too large."""
    model = GatedPixelCNN((1, 4, 4), 8, 1, levels=256)
    x = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    torch.testing.assert_close(model.log_prob(x), model.log_prob(x.long()))
