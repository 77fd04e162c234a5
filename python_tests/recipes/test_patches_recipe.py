"""The recipe of relative patches: steps, measures, the figure and the command line."""

import json

import pytest
import torch
from testing.runs import train_with_a_stop

from gencore import cli
from gencore.models import draw_patch_pairs
from gencore.recipes.representations.patches import PatchesRecipe
from gencore.train import Batch

fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")
pytest.importorskip("skimage")

SMALL = {"steps": 3, "batch_size": 6, "channels": 8, "code_size": 5}


def make(**options):
    recipe = PatchesRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), recipe.load_data())


def batch_of(experiment, num=6):
    return Batch(experiment.dataset.images[:num], None, torch.arange(num))


def test_a_part_of_a_batch_has_its_pairs():
    whole, parts = make(), make(accumulate=3)
    for experiment in (whole, parts):
        torch.manual_seed(1)
        experiment.scalars = experiment.step(batch_of(experiment))
    torch.testing.assert_close(parts.scalars, whole.scalars)


def test_accuracy_of_one_answer_is_how_often_it_is_right():
    """A network that always says "above" is right as often as the pairs' positions say."""
    experiment = make()
    last = experiment.optimisation.module.head[2]
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.0, 5, 0, 0, 0, 0, 0, 0]))
    torch.manual_seed(3)
    measures = experiment.evaluate(600)
    assert measures["accuracy"] == pytest.approx(1 / 8, abs=4 * (7 / 64 / 600) ** 0.5)
    p = torch.tensor([0.0, 5, 0, 0, 0, 0, 0, 0]).log_softmax(0)
    expected = -(measures["accuracy"] * p[1] + (1 - measures["accuracy"]) * p[0])
    assert measures["loss/test"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_figure_shows_patches_and_their_nearest(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "gencore.train.figures.save_image_grid",
        lambda images, path, columns: drawn.update({path.name: (images, columns)}),
    )
    experiment = make()
    # Codes that are the patches: the nearest of a training patch is itself.
    experiment.optimisation.module.encoder = torch.nn.Flatten()
    experiment.test = experiment.dataset
    key = torch.tensor([2, 2])
    monkeypatch.setattr(
        "gencore.recipes.representations.patches_experiment.random_key", lambda *_, **__: key
    )
    experiment.figures(tmp_path)
    images, columns = drawn["nearest.png"]
    rows = images.unflatten(0, (-1, columns))
    torch.testing.assert_close(rows[:, 0], rows[:, 1])
    pairs = draw_patch_pairs(experiment.dataset.images, patch_size=8, gap=3, jitter=1, key=key)
    known = torch.cat([pairs.first, pairs.second]).flatten(1)
    assert all((known == 2 * row[0].flatten() - 1).all(1).any() for row in rows[:, :1])


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    train_with_a_stop(tmp_path, PatchesRecipe(**SMALL))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 6}, "patch_size is 6"),
        ({"channels": 4}, "channels is 4"),
        ({"gap": -1}, "gap is -1"),
        ({"colour": "grey"}, "colour is 'grey'"),
        ({"show_data": True}, "show_data is True, but this recipe draws no samples"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"PatchesRecipe: .*{message}"):
        PatchesRecipe(**options)


def test_images_that_are_too_small_are_told_at_once():
    with pytest.raises(ValueError, match="sides of at least 30 pixels"):
        make(gap=12)


def test_the_command_trains_and_evaluates(tmp_path):
    out = tmp_path / "run"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words += ["--num-evaluate=20"]
    assert cli.main(["train", "patches", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    assert "accuracy" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "nearest.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
