"""The recipe of causal convolutions on images: training, measures, completions, command line."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from gencore import cli
from gencore.data import load_images
from gencore.nn import Categorical, DiscretizedLogisticMixture
from gencore.recipes.autoregressive.pixelcnn import PixelCNNRecipe
from gencore.recipes.autoregressive.pixelcnn_experiment import make_model
from gencore.train import Batch, Diverged, RunFolder, fit

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {"channels": 6, "num_layers": 1, "batch_size": 8, "bits": 4}


def make(**options):
    recipe = PixelCNNRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, dataset)


def make_batch(experiment, num):
    dataset = experiment.dataset.subset(range(num))
    return Batch(dataset.images, dataset.labels, torch.arange(num))


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


@pytest.mark.parametrize(
    "options",
    [
        {"model": "pixelcnn"},
        {"model": "pixelcnn", "likelihood": "mixture", "optimizer": "rmsprop"},
        {"class_conditional": True},
        {"bits": 8, "accumulate": 2},
        {"model": "pixelcnn++", "class_conditional": True, "optimizer": "adamax"},
        {"model": "pixelcnn++", "weight_norm": True, "likelihood": "categorical"},
        {"data": "photos", "image_size": 8},
    ],
)
def test_a_step_trains_and_samples_are_images_of_the_levels(options):
    experiment = make(**options)
    before = weights(experiment.optimisation.module)
    logs = experiment.step(make_batch(experiment, 8))
    assert logs.keys() == {"bits_per_dim", "grad_norm"}
    assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
    assert not torch.equal(weights(experiment.optimisation.module), before)
    samples = experiment.sample(5, torch.Generator().manual_seed(0))
    assert samples.shape == (5, *experiment.image_shape)
    levels = samples * (experiment.recipe.levels - 1)
    torch.testing.assert_close(levels, levels.round())
    assert 0 <= samples.min() < samples.max() <= 1
    # Which method drew them makes no difference, but where a uniform lies at a level's edge.
    naive = make(**options, method="naive")
    for name, part in naive.state.items():
        part.load_state_dict(experiment.state[name].state_dict())
    other = naive.sample(5, torch.Generator().manual_seed(0))
    assert (other == samples).flatten(1).all(1).sum() >= 4


def test_the_likelihoods_and_resolutions_suit_model_and_images():
    for model, kind, expected in (
        ("gated", "auto", Categorical),
        ("pixelcnn++", "auto", DiscretizedLogisticMixture),
        ("pixelcnn++", "categorical", Categorical),
    ):
        recipe = PixelCNNRecipe(**{**SMALL, "model": model, "likelihood": kind})
        likelihood = make_model(recipe, (1, 8, 8)).likelihood
        assert isinstance(likelihood, expected)
        assert likelihood.levels == 16
    recipe = PixelCNNRecipe(**{**SMALL, "model": "pixelcnn++"})
    for side, scales in ((8, 3), (6, 2), (7, 1)):
        assert len(make_model(recipe, (1, side, 8)).there) == scales


def test_levels_are_the_highest_bits():
    recipe, whole = PixelCNNRecipe(bits=2), PixelCNNRecipe()
    images = whole.load_data().images
    assert torch.equal(images, load_images("digits").images)
    assert torch.equal(recipe.load_data().images, (images // 64))
    experiment = make(bits=2, show_data=True)
    assert experiment.shown_data.unique().tolist() == [0, 85, 170, 255]


def test_measures_are_bits_of_the_levels():
    """A network that says nothing takes all of a level's bits."""
    experiment = make(model="gated")
    for part in (experiment.model.outputs.second.weight, experiment.model.outputs.second.bias):
        nn.init.zeros_(part)
    measures = experiment.evaluate(10**6)
    assert measures.pop("num_samples") == len(load_images("digits", split="test"))
    prefix = "bits_per_dim/"
    names = ("test", "train", "independent_gaussian", "full_gaussian")
    assert list(measures) == [prefix + name for name in names]
    assert measures[prefix + "test"] == pytest.approx(4, abs=1e-5)
    assert measures[prefix + "train"] == pytest.approx(4, abs=1e-5)
    assert measures[prefix + "full_gaussian"] < measures[prefix + "independent_gaussian"] < 4


def test_samples_and_measures_come_from_averaged_weights():
    experiment = make(ema_decay=0.75)
    experiment.step(make_batch(experiment, 8))
    first = weights(experiment.optimisation.module)
    experiment.step(make_batch(experiment, 16))
    # the decay is (1 + n) / (10 + n) after n = 1 updates, and 0.75 in the end
    average = 2 / 11 * first + 9 / 11 * weights(experiment.optimisation.module)
    torch.testing.assert_close(weights(experiment.model), average)
    assert not experiment.model.training
    assert experiment.optimisation.module.training


def test_normalised_weights_start_from_images():
    """With it the first parameters have about the scale of the data, and without it 0."""
    experiment = make(model="pixelcnn++", weight_norm=True, dropout=0.0)
    with torch.no_grad():
        parameters = experiment.model(experiment.dataset.images[:200])
    std = parameters.std((0, 2, 3))
    assert ((std > 0.5) & (std < 2)).all()


def test_completions_keep_the_upper_half(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "gencore.train.figures.save_image_grid",
        lambda images, path, columns, above=None: drawn.update({path.name: (images, columns)}),
    )
    experiment = make(class_conditional=True)
    experiment.figures(tmp_path / "figures")
    images, columns = drawn["completions.png"]
    rows = images.view(-1, columns, *images.shape[1:])
    assert len(rows) == 8
    originals, occluded, completions = rows[:, :1], rows[:, 1:2], rows[:, 2:]
    test = experiment.test.images.float() / 15
    assert all((original == test).flatten(1).all(1).any() for original in originals[:, 0])
    assert (completions[..., :4, :] == originals[..., :4, :]).all()
    assert torch.equal(occluded[..., :4, :], originals[..., :4, :])
    assert (occluded[..., 4:, :] == 0.5).all()
    assert not torch.equal(completions[:, 0], completions[:, 1])


class TestClasses:
    def test_each_image_is_conditioned_on_its_own_class(self):
        experiment = make(class_conditional=True)
        images, labels = experiment.dataset.images[:8], experiment.dataset.labels[:8]
        logs = experiment.step(Batch(images, labels, torch.arange(8)))
        with torch.no_grad():
            each = torch.stack([
                experiment.model.log_prob(images, torch.eye(10)[label].expand(8, 10))
                for label in range(10)
            ])  # fmt: skip
        assert (each.std(0) > 1e-4).all()
        assert logs["bits_per_dim"].isfinite()

    def test_a_row_of_the_figure_is_a_class(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns, above=None: drawn.update({path.name: (images, columns)}),
        )
        experiment = make(class_conditional=True)
        seen = []
        sample = type(experiment.model).sample

        def recorded(model, num, context, **options):
            seen.append(context.argmax(1))
            return sample(model, num, context, **options)

        monkeypatch.setattr(type(experiment.model), "sample", recorded)
        samples = experiment.sample(24)
        assert torch.cat(seen).bincount().tolist() == [3, 2, 3, 2, 2, 3, 2, 3, 2, 2]
        experiment.save_samples(samples, tmp_path / "samples.png")
        images, columns = drawn["samples.png"]
        assert columns == 3
        assert torch.equal(images[:3], samples[:3])

    def test_what_needs_labels_says_so(self, tmp_path):
        np.save(tmp_path / "images.npy", np.zeros((10, 8, 8), np.uint8))
        with pytest.raises(ValueError, match=r"needs labels, which .*images\.npy"):
            make(class_conditional=True, data=str(tmp_path / "images.npy"))


def test_divergence_stops_before_the_weights_move():
    experiment = make()
    nn.init.constant_(experiment.optimisation.module.outputs.second.bias, math.inf)
    before = weights(experiment.optimisation.module)
    with pytest.raises(Diverged, match="bits_per_dim is"):
        experiment.step(make_batch(experiment, 8))
    assert torch.equal(weights(experiment.optimisation.module), before)


def test_the_command_trains_resumes_samples_and_evaluates(tmp_path, capsys):
    words = "train pixelcnn --model pixelcnn++ --weight-norm --bits 4 --batch-size 8 --channels 4 "
    words += "--num-layers 1 --num-components 2 --num-samples 4 --accelerator cpu "
    words += "--num-evaluate 20 --log-every 1"
    for folder, steps in (("whole", ["4"]), ("parts", ["2", "4"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            options = [*again, "--steps", count, "--out", str(tmp_path / folder)]
            assert cli.main([*words.split(), *options]) == 0
    for name in ("log.csv", "metrics.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()
    out = tmp_path / "whole"
    assert [path.name for path in (out / "figures").iterdir()] == ["completions.png"]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 1, 8, 8)
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert json.loads(RunFolder(out).metrics.read_text())["num_samples"] == 30
    assert "bits_per_dim/full_gaussian" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "PixelCNNRecipe: bits is 9; expected 1 to 8"),
        ({"ema_decay": None}, "ema_decay is None; expected from 0 to 1"),
        ({"num_layers": 0}, "num_layers is 0; expected positive"),
        ({"model": "pixelcnn++", "dropout": -0.5}, r"dropout is -0\.5; expected from 0 to 1"),
        ({"likelihood": "normal"}, "likelihood is 'normal'; expected one of auto, categorical"),
        ({"model": "pixelcnn++", "num_scales": 5}, "5 scales need sides that are multiples of 16"),
        ({"data": "photos", "channels": 8}, "channels is 8; expected a positive multiple of chan"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", PixelCNNRecipe.presets)
def test_presets_build_their_models(name):
    recipe = PixelCNNRecipe.preset(name, num_layers=1)
    with torch.device("meta"):
        model = make_model(recipe, (3, 32, 32))
    assert model.likelihood.levels == 256


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pixelcnn", "gated", "pixelcnn++"])
def test_training_beats_the_gaussians(tmp_path, model):
    sizes = {"channels": 24, "num_layers": 2, "batch_size": 64}
    if model == "pixelcnn++":
        sizes = {"channels": 12, "num_layers": 1, "batch_size": 32, "num_scales": 2}
    recipe = PixelCNNRecipe(steps=100, bits=4, model=model, learning_rate=3e-3, **sizes)
    fit(recipe, tmp_path, accelerator="cpu", progress=False, num_samples=0)
    measures = json.loads(RunFolder(tmp_path).metrics.read_text())
    assert measures["bits_per_dim/test"] < measures["bits_per_dim/full_gaussian"]
