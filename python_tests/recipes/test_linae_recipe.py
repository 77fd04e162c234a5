"""The recipe of linearising auto-encoders: triplets, measures, figures and the command line."""

import json
import math

import pytest
import torch
from testing.runs import train_with_a_stop

from gencore import cli
from gencore.recipes.video.linae import LinAERecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 3, "batch_size": 6, "data": "digits", "image_size": 12, "margin": 2, "width": 0.0625,
}  # fmt: skip


def make(**options):
    recipe = LinAERecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)


def batch_of(experiment, num=6):
    return Batch(experiment.dataset.images[:num], None, torch.arange(num))


class TestTriplets:
    def test_frames_are_cut_out_of_what_moves(self):
        """A digit that moves by a whole pixel a frame, of which the border is not seen."""
        experiment = make(margin=3, architecture="mlp")
        images = experiment.dataset.images[:2]
        motion = experiment._motions(torch.full((2, 4), 0.5))
        still = experiment.films(images, motion, (0.0, 3.0))
        inner = images[:, :, 3:-3, 3:-3] / 255
        torch.testing.assert_close(still, torch.stack([inner, inner], 1))
        moving = motion._replace(velocity=torch.tensor([[3.0, 0.0], [0.0, -6.0]]))
        films = experiment.films(images, moving, (1.0, 2.0, 3.0))
        torch.testing.assert_close(films[0, 2] * 255, images[0, :, 3:-3, :6].float())
        torch.testing.assert_close(films[1, 0] * 255, images[1, :, 5:11, 3:-3].float())

    def test_a_part_of_a_batch_has_its_motions(self):
        """Accumulated in parts, the step is that of the whole batch."""
        whole, parts = make(), make(accumulate=3)
        for experiment in (whole, parts):
            torch.manual_seed(1)
            experiment.scalars = experiment.step(batch_of(experiment))
        torch.testing.assert_close(parts.scalars, whole.scalars)

    def test_the_loss_has_both_terms(self):
        experiment = make(curvature_weight=0.7)
        scalars = experiment.step(batch_of(experiment))
        expected = 32 * scalars["prediction_mse"] - 0.7 * scalars["cosine"]  # of 64 pixels
        torch.testing.assert_close(scalars["loss"], expected)


class TestMeasures:
    def test_a_perfect_autoencoder_of_pixels(self):
        """With codes that are the pixels, half-way is their average and codes bend as pixels do."""
        experiment = make(architecture="mlp", phase_pooling=False)
        for name in ("encoder", "decoder"):
            setattr(experiment.optimisation.module, name, torch.nn.Identity())
        measures = experiment.evaluate(500)
        assert measures["mse/interpolation"] == pytest.approx(measures["mse/pixel_average"])
        assert measures["cosine/code"] == pytest.approx(measures["cosine/pixels"])
        assert (
            measures["mse/pixel_average"] < measures["mse/copy_last"] < measures["mse/prediction"]
        )

    def test_nothing_moves(self):
        """Then neither codes nor pixels have a direction, and the last frame is the next."""
        measures = make(max_shift=0, max_angle=0, max_scale=1).evaluate(20)
        nothing = ("mse/copy_last", "mse/pixel_average", "cosine/code", "cosine/pixels")
        assert [measures[name] for name in nothing] == [0, 0, 0, 0]
        assert measures["mse/prediction"] == pytest.approx(measures["mse/interpolation"])


class TestFigures:
    def test_a_strip_is_above_what_is_decoded(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns: drawn.update({path.name: (images, columns)}),
        )
        experiment = make()
        experiment.figures(tmp_path / "figures")
        images, columns = drawn["strips.png"]
        rows = images.view(-1, 2, columns, 1, 8, 8)
        x1, x2 = rows[:, 0, 2], rows[:, 0, 4]  # at the times 1 and 2 of 0, ½, … 3
        with torch.no_grad():
            for column, t in enumerate((-1, -0.5, 0, 0.5, 1, 1.5, 2)):
                torch.testing.assert_close(
                    rows[:, 1, column], experiment.model.interpolate(x1, x2, t)
                )
        groups, _ = drawn["filters.png"]
        assert groups.shape == (1, 1, 9 + 2, 4 * 10 + 1)  # of one group of four filters of 9×9

    def test_a_filter_is_what_one_unit_paints(self):
        experiment = make()
        model = experiment.model
        for feature in range(4):
            maps = torch.zeros(1, 4, 9, 9)
            maps[0, feature, 4, 4] = 1
            painted = (model.decoder(maps) - model.decoder(torch.zeros_like(maps)))[0]
            shown = experiment.filters()[0, feature]
            torch.testing.assert_close(shown, 0.5 + 0.5 * painted / painted.abs().max())

    @pytest.mark.parametrize("options", [{"architecture": "mlp"}, {"phase_pooling": False}])
    def test_decoders_without_filters_of_pools(self, options):
        assert make(**options).filters() is None


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    train_with_a_stop(tmp_path, LinAERecipe(**SMALL))


@pytest.mark.parametrize("name", LinAERecipe.presets)
def test_presets_have_the_frames_of_the_thesis(name):
    recipe = LinAERecipe.preset(name)
    assert recipe.image_size - 2 * recipe.margin == 32
    assert recipe.architecture == name.removeprefix("mathieu2017-")
    assert (recipe.curvature_weight == 0) == (name[-5:] in ("deep1", "deep2"))
    assert name.find("deep") < 0 or recipe.max_angle == math.pi / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_scale": 0.5}, "max_scale is 0.5; expected at least 1"),
        ({"margin": -1}, "margin is -1; expected 0 or positive"),
        ({"show_data": True}, "show_data is True, but this recipe draws no samples"),
        ({"architecture": "deep2", "beta": 1.0}, "beta is 1.0, but it has an effect with"),
        ({"phase_pooling": False, "learn_beta": True}, "learn_beta is True, but it has an effect"),
        ({"architecture": "deep1", "learned_predictor": True}, "learned_predictor is True, but"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"LinAERecipe: {message}"):
        LinAERecipe(**options)


def test_a_margin_that_leaves_nothing():
    with pytest.raises(ValueError, match="margin is 6, which leaves nothing of images of 12x12"):
        make(margin=6)


def test_the_command_trains_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "num_evaluate": 20, "architecture": "shallow2"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "linae", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    assert "mse/prediction" in json.loads((out / "metrics.json").read_text())
    for name in ("strips", "filters"):
        assert (out / "figures" / f"{name}.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
