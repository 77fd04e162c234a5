"""The recipe of V1's simple cells: pairs, learning with and without displacements, measures."""

import json

import pytest
import torch
from testing.runs import train_with_a_stop

from gencore import cli
from gencore.ops import warp
from gencore.recipes.visual_cortex.v1 import V1Recipe
from gencore.train import Batch

pytest.importorskip("sklearn")
pytest.importorskip("skimage")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 3, "batch_size": 4, "image_size": 24, "margin": 4, "num_blocks": 8,
    "patch_size": 8, "stride": 4, "max_displacement": 2.0,
}  # fmt: skip
UNSUPERVISED = {**SMALL, "supervised": False, "matrices": "taylor", "inference_steps": 2}


def make(**options):
    recipe = V1Recipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)


def batch_of(experiment, num=4):
    return Batch(experiment.dataset.images[:num], None, torch.arange(num))


class TestPairs:
    @pytest.mark.parametrize("pairs", ["deformed", "flying"])
    def test_cells_see_images_that_warping_relates(self, pairs):
        """In [-1, 1], without the margin, with δ of the middle of each patch."""
        experiment = make(pairs=pairs, band_pass=False)
        numbers = torch.rand(4, experiment.num_numbers)
        pair = experiment.moving(experiment.dataset.images[:4], numbers)
        first, second, truth = experiment.seen(pair)
        assert first.shape == second.shape == (4, 1, 16, 16)
        assert truth.shape == (4, 2, 3, 3)
        whole = warp(2 * pair.first - 1, pair.displacement, padding="border")[..., 4:-4, 4:-4]
        shown = pair.visible[..., 4:-4, 4:-4]
        torch.testing.assert_close(whole[shown], second[shown], atol=1e-5, rtol=0)
        middle = pair.displacement[:, :, 7:9, 11:13].mean((2, 3))  # of rows 0-7, columns 4-11
        torch.testing.assert_close(truth[:, :, 0, 1], middle)

    def test_the_band_pass_is_of_images_that_have_moved(self):
        experiment = make()
        numbers = torch.rand(4, 32)
        pair = experiment.moving(experiment.dataset.images[:4], numbers)
        first, _, _ = experiment.seen(pair)
        assert first.mean().abs() < 0.1
        flat = pair._replace(first=torch.full_like(pair.first, 0.7))
        assert experiment.seen(flat)[0].abs().max() < 1e-5


class TestSteps:
    def test_a_part_of_a_batch_has_its_motions(self):
        """Accumulated in parts, the step is that of the whole batch."""
        whole, parts = make(), make(accumulate=2)
        for experiment in (whole, parts):
            torch.manual_seed(1)
            experiment.scalars = experiment.step(batch_of(experiment))
        torch.testing.assert_close(parts.scalars, whole.scalars)

    def test_the_loss_weighs_both_terms(self):
        experiment = make(reconstruction_weight=3.0)
        scalars = experiment.step(batch_of(experiment))
        expected = scalars["rotation"] + 3 * scalars["reconstruction"]
        torch.testing.assert_close(scalars["loss"], expected)

    @pytest.mark.parametrize("matrices", ["taylor", "rotation"])
    def test_unsupervised_steps_keep_what_they_infer(self, matrices):
        experiment = make(**{**UNSUPERVISED, "matrices": matrices})
        before = experiment.displacements.values.clone()
        batch = batch_of(experiment)
        experiment.step(batch)
        once = experiment.displacements.values.clone()
        assert (once != before).flatten(1).any(1).nonzero().flatten().tolist() == [0, 1, 2, 3]
        experiment.step(batch)
        assert experiment.displacements.num_steps[:5].tolist() == [4, 4, 4, 4, 0]
        pair = experiment._fixed_pairs(batch)
        for one, other in zip(pair, experiment._fixed_pairs(batch), strict=True):
            assert torch.equal(one, other)

    def test_supervision_is_by_the_truth(self):
        """The rotation loss of a step is that of the model at the true displacement."""
        experiment = make(accumulate=1)
        batch = batch_of(experiment)
        torch.manual_seed(5)
        numbers = batch.uniform((32,))
        first, second, truth = experiment.seen(experiment.moving(batch.x, numbers))
        expected = experiment.model.rotation_loss(first, second, truth).mean() / 256
        torch.manual_seed(5)
        torch.testing.assert_close(experiment.step(batch)["rotation"], expected.detach())


class TestMeasures:
    @pytest.mark.parametrize(
        "options", [{}, {"mixing_radius": 2, "displacement_step": 1.0}, UNSUPERVISED]
    )
    def test_errors_beside_those_of_others(self, options):
        measures = make(**options).evaluate(6)
        assert measures["aee/tvl1"] < measures["aee/nothing"] < measures["aee/chance"]
        assert ("mse/animation" in measures) == ("mixing_radius" not in options)
        assert measures["motion/from_identity"] == (0 if "supervised" in options else 1)

    def test_cells_that_know_nothing_say_the_first_of_the_lattice(self):
        """All candidates cost alike: δ = (−2, −2) everywhere."""
        experiment = make()
        pair = experiment.moving(experiment.test.images[:4], torch.rand(4, 32))
        first, second, _ = experiment.seen(pair)
        assert (experiment.infer(first, second) == -2).all()

    def test_figures(self, tmp_path):
        for name, options in (("whole", {}), ("mixing", {"mixing_radius": 2})):
            make(**options).figures(tmp_path / name)
        whole = {path.name for path in (tmp_path / "whole").iterdir()}
        assert whole == {"filters.png", "displacements.png", "animation.png"}
        assert not (tmp_path / "mixing" / "animation.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SMALL, UNSUPERVISED])
def test_a_resumed_run_is_the_same(tmp_path, settings):
    train_with_a_stop(tmp_path, V1Recipe(**{**settings, "schedule": "constant"}))


@pytest.mark.parametrize("name", V1Recipe.presets)
def test_presets_have_the_sizes_of_the_thesis(name):
    recipe = V1Recipe.preset(name)
    unsupervised = name == "gao2021-unsupervised"
    assert (recipe.learning_rate, recipe.max_displacement) == (8e-4, 6.0)
    assert recipe.patch_size == (8 if unsupervised else 16)
    assert recipe.supervised != unsupervised
    assert recipe.num_blocks * recipe.block_size >= max(80, recipe.stride**2)
    if "dimension" in name:
        assert recipe.block_size == int(name.rpartition("-")[2])
    if recipe.matrices == "table":
        assert recipe.displacement_step == 0.5
    side = recipe.image_size - 2 * recipe.margin
    assert side == (64 if unsupervised else 112)
    assert side % recipe.stride == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"supervised": False}, 'supervised is False and matrices is "table"'),
        ({"matrices": "rotation", "block_size": 4}, 'matrices is "rotation" and block_size 4'),
        ({"show_data": True}, "show_data is True, but this recipe draws no samples"),
        ({"matrices": "taylor", "mixing_radius": 2}, "mixing_radius is 2, but it has an effect"),
        ({"inference_steps": 3}, "inference_steps is 3, but it has an effect"),
        ({"max_displacement": 0.0}, "max_displacement is 0.0; expected positive"),
        ({"warping": -1.0}, "warping is -1.0; expected 0 or positive"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"V1Recipe: {message}"):
        V1Recipe(**options)


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match="images are 24x24 and margin is 3, which leaves 18x18"):
        make(margin=3)


def test_the_command_trains_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "num_evaluate": 6}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "v1", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    assert "aee/tvl1" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "filters.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "5"]) == 0
