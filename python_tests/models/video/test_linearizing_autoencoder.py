"""The linearising auto-encoder: its predictor, paths of codes, architectures and what it learns."""

import json
import math
import time

import pytest
import torch
from testing.bump_films import MAX_SPEED, STD, bump_films, bump_measures, trained_on_bumps
from torch import nn

from gencore.models import LinearizingAutoencoder, PhaseCode, SiameseAutoencoder
from gencore.models import linearizing_architecture as make
from gencore.objectives import curvature_cosine


def random_codes(num, *, phases=False):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    if phases:
        return [PhaseCode(draw(4, 3, 2), draw(4, 3, 3, 2)) for _ in range(num)]
    return [draw(5) for _ in range(num)]


def identity(**options):
    return LinearizingAutoencoder(nn.Identity(), nn.Identity(), **options)


class TestPredictor:
    def test_a_code_goes_on_in_a_line(self):
        x1, x2 = random_codes(2)
        torch.testing.assert_close(identity().predict_code(x1, x2), x2 + (x2 - x1))
        torch.testing.assert_close(identity()(x1, x2), 2 * x2 - x1)

    def test_m13_magnitudes_stay_and_phases_go_on(self):
        first, second = random_codes(2, phases=True)
        third = make("shallow1", (3, 8, 8)).predict_code(first, second)
        torch.testing.assert_close(third.magnitude, (first.magnitude + second.magnitude) / 2)
        torch.testing.assert_close(third.phase, 2 * second.phase - first.phase)

    def test_m13_a_predicted_step_of_one_node_moves_the_map_by_one(self):
        """Encoded in phases that advance by one node a frame, the decoder's maps follow."""
        model = make("mlp", (32,)).double()
        model.decoder = nn.Flatten()
        nodes = torch.linspace(-1, 1, 8, dtype=torch.float64)
        magnitude = torch.rand(2, 8, 1, 1, dtype=torch.float64)
        first, second = (PhaseCode(magnitude, nodes[node].expand(2, 8, 1, 1, 1)) for node in (3, 4))
        maps = model.decode(model.predict_code(first, second)).view(2, 8, 8)
        expected = torch.zeros_like(maps)
        expected[..., 5] = magnitude[..., 0, 0]
        torch.testing.assert_close(maps, expected)

    def test_a_learned_predictor_starts_as_the_fixed_one(self):
        for phases in (False, True):
            first, second = random_codes(2, phases=phases)
            options = {"width": 0.25, "phase_pooling": phases}
            fixed = make("shallow1", (1, 8, 8), **options)
            learned = make("shallow1", (1, 8, 8), **options, learned_predictor=True)
            torch.testing.assert_close(
                learned.predict_code(first, second), fixed.predict_code(first, second)
            )
            more = dict(learned.named_parameters()).keys() - dict(fixed.named_parameters()).keys()
            assert more == ({"extrapolation", "average"} if phases else {"extrapolation"})

    def test_it_learns_a_motion_that_slows_down(self):
        """x³ = x² + ½ (x² − x¹): a = (3/2, −1/2)."""
        model = identity(learned_predictor=True)
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(200):
            x1, x2 = torch.randn(2, 16, 4, generator=generator)
            optimizer.zero_grad()
            model.loss(x1, x2, 1.5 * x2 - 0.5 * x1).loss.mean().backward()
            optimizer.step()
        torch.testing.assert_close(
            model.extrapolation.detach(), torch.tensor([1.5, -0.5]), rtol=0, atol=1e-3
        )


class TestPaths:
    @pytest.mark.parametrize("phases", [False, True])
    def test_they_go_through_both_codes_and_the_predictions(self, phases):
        first, second = random_codes(2, phases=phases)
        model = identity()
        third = model.predict_code(first, second)
        knots = {
            -1: model.predict_code(second, first), 0: first, 1: second, 2: third,
            3: model.predict_code(second, third),
        }  # fmt: skip
        for t, code in knots.items():
            torch.testing.assert_close(model.code_at(first, second, t), code)
        for t in (-0.5, 0.25, 1.5):
            below, above = (knots[int(t // 1) + i] for i in (0, 1))
            halves = zip(below, above, strict=True) if phases else [(below, above)]
            at = model.code_at(first, second, t)
            for (low, high), found in zip(halves, at if phases else [at], strict=True):
                torch.testing.assert_close(found, low + t % 1 * (high - low))

    def test_maps_lie_on_one_line(self):
        first, second = random_codes(2)
        for t in (-2.75, 0.3, 5.5):
            torch.testing.assert_close(
                identity().interpolate(first, second, t), first + t * (second - first)
            )

    def test_the_siamese_decoder_has_the_codes_before(self):
        first, second = random_codes(2)
        model = SiameseAutoencoder(nn.Identity(), nn.Identity())
        torch.testing.assert_close(model(first, second), torch.cat([first, second], 1))
        torch.testing.assert_close(model.interpolate(first, second, 2), model(first, second))
        step = second - first
        torch.testing.assert_close(
            model.interpolate(first, second, 0.5),
            torch.cat([first - 1.5 * step, first - 0.5 * step], 1),
        )

    @pytest.mark.parametrize("t", [float("nan"), float("inf")])
    def test_times_that_are_none(self, t):
        for model in (identity(), SiameseAutoencoder(nn.Identity(), nn.Identity())):
            with pytest.raises(ValueError, match="expected a finite number"):
                model.interpolate(torch.zeros(1, 2), torch.zeros(1, 2), t)


class TestLoss:
    def test_it_is_equation_3_6(self):
        torch.manual_seed(0)
        encoder, decoder = nn.Linear(5, 3).double(), nn.Linear(3, 5).double()
        model = LinearizingAutoencoder(encoder, decoder)
        x1, x2, y = random_codes(3)
        z1, z2, z3 = map(encoder, (x1, x2, y))
        terms = model.loss(x1, x2, y, curvature_weight=0.3)
        error = (decoder(2 * z2 - z1) - y).square().sum(1)
        cosine = torch.cosine_similarity(z2 - z1, z3 - z2)
        torch.testing.assert_close(terms, (error / 2 - 0.3 * cosine, error, cosine))
        torch.testing.assert_close(model.loss(x1, x2, y).loss, error / 2)

    def test_a_film_does_not_depend_on_the_others(self):
        model = make("shallow1", (1, 8, 8), width=0.25)
        films = torch.rand(3, 6, 1, 8, 8)
        whole = model.loss(*films, curvature_weight=0.3)
        alone = model.loss(*films[:, 4:5], curvature_weight=0.3)
        for entire, part in zip(whole, alone, strict=True):
            torch.testing.assert_close(entire[4:5], part)

    def test_curvature_is_that_of_each_triplet(self):
        model = make("mlp", (32,))
        films = bump_films(4, torch.Generator().manual_seed(0), (0.0, 1.0, 1.5, 2.0, 3.0))
        cosines = model.curvature(films)
        assert cosines.shape == (4, 3)
        for start in range(3):
            expected = model.loss(*films[:, start : start + 3].unbind(1)).cosine
            torch.testing.assert_close(cosines[:, start], expected)

    def test_of_pools_it_is_the_mean_over_their_phases(self):
        codes = random_codes(3, phases=True)
        whole = make("shallow1", (1, 8, 8)).cosine(*codes)
        mean = make("shallow1", (1, 8, 8), curvature_of="pool").cosine(*codes)
        torch.testing.assert_close(whole, curvature_cosine(*(code.phase for code in codes)))
        expected = torch.stack([
            curvature_cosine(*(code.phase[:, g, :, i, j] for code in codes))
            for g in range(4) for i in range(3) for j in range(2)
        ])  # fmt: skip
        torch.testing.assert_close(mean, expected.mean(0))

    def test_magnitudes_have_no_curvature(self):
        codes = [code._replace(magnitude=code.magnitude.requires_grad_()) for code in
                 random_codes(3, phases=True)]  # fmt: skip
        cosine = make("shallow1", (1, 8, 8)).cosine(*codes)
        assert not cosine.requires_grad


class TestArchitectures:
    """Table 3.1."""

    @pytest.mark.parametrize(
        ("architecture", "channels", "magnitude", "phase"),
        [
            ("shallow1", 3, (16, 8, 8), (16, 3, 8, 8)),
            ("shallow2", 3, (32, 16, 16), (32, 3, 16, 16)),
            ("deep3", 1, (64, 1, 1), (64, 2, 1, 1)),
        ],
    )
    def test_m17_codes_of_phases(self, architecture, channels, magnitude, phase):
        with torch.device("meta"):
            model = make(architecture, (channels, 32, 32))
            x = torch.empty(2, channels, 32, 32)
        code = model.encode(x)
        assert (code.magnitude.shape[1:], code.phase.shape[1:]) == (magnitude, phase)
        assert model(x, x).shape == x.shape
        if architecture == "deep3":
            assert code.magnitude[0].numel() + code.phase[0].numel() == 192

    @pytest.mark.parametrize(("architecture", "inputs"), [("deep1", 8192), ("deep2", 4096)])
    def test_m17_codes_of_4096(self, architecture, inputs):
        with torch.device("meta"):
            model = make(architecture, (1, 32, 32))
            x = torch.empty(2, 1, 32, 32)
        assert model.encode(x).shape == (2, 4096)
        assert model(x, x).shape == x.shape
        assert model.encoder.shapes == ((1, 32, 32), (16, 24, 24), (32, 16, 16), (4096,))
        assert model.decoder.shapes[0] == (inputs,)
        assert model.decoder.shapes[1:] == ((8192,), (32, 16, 16), (16, 24, 24), (1, 32, 32))

    def test_the_deep_ones_differ_in_the_decoders_first_layer_alone(self):
        with torch.device("meta"):
            sizes = [
                sum(p.numel() for p in make(f"deep{i}", (1, 32, 32)).parameters())
                for i in (1, 2, 3)
            ]
        assert sizes[0] - sizes[1] == 4096 * 8192
        assert sizes[1] == sizes[2]

    def test_the_fully_connected_one(self):
        pooled, plain = make("mlp", (32,)), make("mlp", (32,), phase_pooling=False)
        code = pooled.encode(torch.rand(2, 32))
        assert code.magnitude.shape == (2, 8, 1, 1)
        assert code.phase.shape == (2, 8, 1, 1, 1)
        assert plain.encode(torch.rand(2, 32)).shape == (2, 64)
        images = torch.rand(2, 3, 4, 4)
        assert make("mlp", (3, 4, 4), width=0.5)(images, images).shape == images.shape

    @pytest.mark.parametrize("architecture", ["shallow1", "shallow2", "deep3", "mlp"])
    def test_all_parameters_learn(self, architecture):
        torch.manual_seed(0)
        side = 20 if architecture == "deep3" else 8
        model = make(
            architecture, (1, side, side), width=0.25, learn_beta=True, learned_predictor=True,
            curvature_of="pool",
        )  # fmt: skip
        films = torch.rand(3, 4, 1, side, side)
        model.loss(*films, curvature_weight=0.3).loss.mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().max() > 0, name

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            (("deep4", (1, 32, 32)), {}, "architecture is 'deep4'; expected one of shallow1"),
            (("deep1", (1, 16, 32)), {}, "sides are 16 and 32; expected more than 16"),
            (("shallow1", (3, 32, 30)), {}, "sides are 32 and 30; expected multiples of 4"),
            (("deep3", (32,)), {}, r"image_shape is \[32\]; expected \[C, H, W\]"),
            (("mlp", (32,)), {"width": 0}, "width is 0; expected a positive number"),
            (("deep1", (1, 32, 32)), {"learned_predictor": True}, "has no predictor"),
            (("deep2", (1, 20, 20)), {"curvature_of": "pool"}, "'pool', but there is none"),
        ],
    )
    def test_what_does_not_fit(self, arguments, options, message):
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            make(*arguments, **options)

    def test_a_pool_needs_its_inverse(self):
        with pytest.raises(ValueError, match="expected both, or neither"):
            LinearizingAutoencoder(nn.Identity(), nn.Identity(), nn.Identity())


def assert_linearizes(measures):
    assert measures["cosine"] >= 0.99
    assert measures["prediction"] <= 0.01 * measures["copy_last"]
    assert measures["interpolation"] <= 0.1 * measures["pixel_average"]


class TestBumps:
    """A bump that moves: straight in the codes, where it is curved in pixels."""

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_m10_codes_become_straight(self, seed):
        model = trained_on_bumps(500, seed=seed, curvature_weight=0.3, phase_pooling=True)
        assert_linearizes(bump_measures(model))

    def test_pixels_are_curved(self):
        """The integrals over the speeds v of bumps on an endless line, with k(v) = exp(−v²/4σ²):
        the films, and what is measured without a model."""
        v = torch.linspace(0.5, MAX_SPEED, 1001, dtype=torch.float64)
        power = STD * math.pi**0.5

        def k(distance):
            return torch.exp(-distance.square() / (4 * STD**2))

        step = 2 - 2 * k(v)
        expected = {
            "cosine": (2 * k(v) - 1 - k(2 * v)) / step,
            "copy_last": power * step,
            "pixel_average": power * (1.5 + k(v) / 2 - 2 * k(v / 2)),
        }
        measures = bump_measures(identity(), num=20_000)
        for name, values in expected.items():
            error = 4 * values.std().item() / 20_000**0.5
            assert measures[name] == pytest.approx(values.mean().item(), abs=error)

    @pytest.mark.long
    def test_the_table(self):
        """The table of docs/linearizing.md."""
        for phase_pooling in (False, True):
            for curvature_weight in (0.0, 0.3):
                for seed in range(3):
                    start = time.process_time()
                    model = trained_on_bumps(
                        4000, seed=seed, curvature_weight=curvature_weight,
                        phase_pooling=phase_pooling,
                    )  # fmt: skip
                    measures = bump_measures(model)
                    row = {"phase_pooling": phase_pooling, "curvature_weight": curvature_weight}
                    seconds = {"seconds": time.process_time() - start}
                    print(json.dumps({**row, "seed": seed, **measures, **seconds}))
                    if curvature_weight:
                        assert_linearizes(measures)
