"""The recipe of LSTMs on images: training, measures, command line."""

import json

import numpy as np
import pytest
import torch

from gencore import cli
from gencore.models import MultiScalePixelRNN, PixelRNN
from gencore.recipes.autoregressive.pixelrnn import PixelRNNRecipe
from gencore.recipes.autoregressive.pixelrnn_experiment import make_model
from gencore.train import Batch, RunFolder, fit

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {"channels": 4, "num_layers": 1, "batch_size": 8, "bits": 4}


def make(**options):
    recipe = PixelRNNRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


@pytest.mark.parametrize(
    "options",
    [
        {"model": "row_lstm", "class_conditional": True, "bits": 1},
        {"model": "diagonal_bilstm", "class_conditional": True},
        {"model": "multiscale"},
        {"model": "row_lstm", "data": "photos", "image_size": 8, "channels": 6},
    ],
)
def test_a_step_trains_and_samples_are_images_of_the_levels(options):
    experiment = make(**options)
    before = weights(experiment.optimisation.module)
    data = experiment.dataset.subset(range(8))
    logs = experiment.step(Batch(data.images, data.labels, torch.arange(8)))
    assert logs["bits_per_dim"].isfinite()
    assert not torch.equal(weights(experiment.optimisation.module), before)
    samples = experiment.sample(5, torch.Generator().manual_seed(0))
    levels = samples * (experiment.recipe.levels - 1)
    torch.testing.assert_close(levels, levels.round())
    assert samples.shape == (5, *experiment.image_shape)


def test_the_model_is_the_one_that_the_recipe_names():
    shape = (3, 8, 8)
    row, diagonal, two = (
        make_model(PixelRNNRecipe(channels=6, **options), shape)
        for options in (
            {"model": "row_lstm", "kernel_size": 5},
            {"model": "diagonal_bilstm"},
            {"model": "multiscale"},
        )
    )
    assert isinstance(row, PixelRNN)
    assert isinstance(diagonal, PixelRNN)
    assert isinstance(two, MultiScalePixelRNN)
    assert row.layers[0].lstm.kernel_size == 5
    assert row.channel_groups == diagonal.channel_groups == two.channel_groups == 3
    assert (diagonal.columns_after, row.columns_after) == (1, 0)


def test_the_command_trains_resumes_samples_and_evaluates(tmp_path, capsys):
    words = "train pixelrnn --model multiscale --bits 1 --batch-size 8 --channels 4 "
    words += "--num-layers 1 --num-samples 4 --accelerator cpu --num-evaluate 20 --log-every 1"
    for folder, steps in (("whole", ["2"]), ("parts", ["1", "2"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            options = [*again, "--steps", count, "--out", str(tmp_path / folder)]
            assert cli.main([*words.split(), *options]) == 0
    for name in ("log.csv", "metrics.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()
    out = tmp_path / "whole"
    assert cli.main(["sample", str(out), "--num", "3", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (3, 1, 8, 8)
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert "bits_per_dim/test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; expected positive"),
        ({"model": "multiscale", "class_conditional": True}, "multiscale is not class_conditional"),
        ({"model": "multiscale", "factor": 3}, "factor is 3; expected at least 2 and a divisor"),
        ({"model": "lstm"}, "model is 'lstm'; expected one of row_lstm"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", PixelRNNRecipe.presets)
def test_presets_build_their_models(name):
    recipe = PixelRNNRecipe.preset(name, num_layers=1)
    with torch.device("meta"):
        model = make_model(recipe, (3, 32, 32))
    assert model.likelihood.levels == 256


@pytest.mark.slow
@pytest.mark.parametrize("model", ["row_lstm", "diagonal_bilstm", "multiscale"])
def test_training_beats_the_gaussians(tmp_path, model):
    recipe = PixelRNNRecipe(
        steps=120, bits=4, model=model, channels=16, num_layers=1, learning_rate=3e-3
    )
    fit(recipe, tmp_path, accelerator="cpu", progress=False, num_samples=0)
    measures = json.loads(RunFolder(tmp_path).metrics.read_text())
    assert measures["bits_per_dim/test"] < measures["bits_per_dim/full_gaussian"]
