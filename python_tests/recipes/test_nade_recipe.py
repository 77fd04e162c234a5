"""The recipe of autoregressive models of binary images: bits, training, measures, the command."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from gencore import cli
from gencore.data import ImageDataset, load_images
from gencore.models import DARN
from gencore.recipes.autoregressive.nade import NADERecipe
from gencore.recipes.autoregressive.nade_experiment import binarized
from gencore.train import RunFolder, fit
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")

MODELS = {
    "nade": {"model": "nade", "hidden_widths": (6,)},
    "nade, random order": {"model": "nade", "hidden_widths": (6,), "order": "random"},
    "eonade": {"model": "eonade", "hidden_widths": (6, 5), "num_orderings": 2},
    "made": {"model": "made", "hidden_widths": (6,)},
    "made, several masks": {
        "model": "made", "hidden_widths": (6,), "num_masks": 3, "order_agnostic": True,
    },
    "darn": {"model": "darn", "latents": (6, 4), "importance_samples": 3},
}  # fmt: skip
NAMES = {
    "eonade": ("nats", "nats_ensemble"),
    "darn": ("nats_bound", "nats_importance_bound"),
}


def train(run_dir, *, resume=False, **options):
    return fit(
        NADERecipe(**{"steps": 3, "batch_size": 8, **options}), run_dir, accelerator="cpu",
        progress=False, resume=resume, log_every=1, num_samples=4, num_evaluate=10,
    )  # fmt: skip


def make(**options):
    recipe = NADERecipe(**options)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def metrics(run_dir):
    return json.loads(RunFolder(run_dir).metrics.read_text())


class TestBinarized:
    images = torch.arange(256, dtype=torch.uint8).repeat(2000).view(2000, 1, 16, 16)

    def test_a_threshold(self):
        found = binarized(ImageDataset(self.images, None, "ramp"), "threshold", "train").images
        assert torch.equal(found, torch.where(self.images >= 128, 255, 0).to(torch.uint8))

    def test_at_random_with_the_level_as_probability(self):
        dataset = ImageDataset(self.images, None, "ramp")
        found = binarized(dataset, "stochastic", "train").images
        assert found.unique().tolist() == [0, 255]
        p = torch.arange(256) / 255
        share = (found > 0).flatten(1).float().mean(0)
        assert ((share - p).abs() <= 5 * (p * (1 - p) / 2000).sqrt()).all()
        assert torch.equal(binarized(dataset, "stochastic", "train").images, found)
        assert not torch.equal(binarized(dataset, "stochastic", "test").images, found)

    def test_data_of_all_seeds_are_the_same(self):
        one, other = (NADERecipe(seed=s, binarization="stochastic").load_data() for s in (0, 1))
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, load_images("digits").labels)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_every_model_trains_samples_and_is_measured(tmp_path, options):
    experiment = train(tmp_path, **options)
    samples = experiment.sample(5)
    assert samples.shape == (5, 1, 8, 8)
    assert samples.unique().tolist() == [0, 1]
    names = NAMES.get(options["model"], ("nats",))
    expected = [f"{name}/{part}" for part in ("test", "train") for name in names]
    measures = metrics(tmp_path)
    assert list(measures)[2:] == [*expected, "nats/independent_pixels"]
    assert 0 < measures["nats/independent_pixels"] < min(measures[name] for name in expected)
    with Image.open(tmp_path / "figures" / "completions.png") as picture:
        assert picture.mode == "L"


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_fair_coins_take_a_bit_a_pixel(options):
    experiment = make(**options)
    model = experiment.optimisation.module
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    measures = experiment.evaluate(20)
    if isinstance(model, DARN):
        assert model.num_bits == 10  # coins that the encoder gives back
    for name in NAMES.get(options["model"], ("nats",)):
        assert measures[f"{name}/test"] == pytest.approx(64 * math.log(2), rel=1e-5)


def test_independent_pixels_are_counted():
    """Of three training images a pixel is 1 in two, and with one more of each kind in 3 of 5."""
    experiment = make(**MODELS["nade"])
    train_images = torch.tensor([255, 255, 0], dtype=torch.uint8).view(3, 1, 1, 1)
    experiment.dataset = ImageDataset(train_images.expand(3, 1, 8, 8), None, "three")
    images = torch.tensor([255, 0], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    experiment.test = ImageDataset(images, None, "two")
    expected = -64 * (math.log(0.6) + math.log(0.4)) / 2
    assert experiment.evaluate(2)["nats/independent_pixels"] == pytest.approx(expected)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_completions_keep_the_upper_half(tmp_path, monkeypatch, options):
    drawn = []
    monkeypatch.setattr(
        "gencore.train.figures.save_image_grid",
        lambda images, path, columns: drawn.append(images.view(-1, columns, 8, 8)),
    )
    make(**options).figures(tmp_path / "figures")
    ((images, half, completed),) = ((rows[:, 0], rows[:, 1], rows[:, 2:]) for rows in drawn)
    assert (completed[:, :, :4] == images[:, None, :4]).all()
    assert (half[:, :4] == images[:, :4]).all()
    assert (half[:, 4:] == 0.5).all()
    assert not (completed[:, 0, 4:] == completed[:, 1, 4:]).all()


@pytest.mark.parametrize("name", ["eonade", "made, several masks", "darn"])
def test_an_interrupted_run_is_the_straight_one(tmp_path, name):
    options = MODELS[name]
    train(tmp_path / "straight", steps=6, **options)
    train(tmp_path / "two", **options)
    torch.manual_seed(99)
    train(tmp_path / "two", steps=6, resume=True, **options)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for part, value in states[0]["state"]["model"].items():
        assert torch.equal(value, states[1]["state"]["model"][part])
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "two")
    assert read_log(tmp_path / "straight" / "log.csv") == read_log(tmp_path / "two" / "log.csv")


@pytest.mark.parametrize("name", ["eonade", "darn"])
def test_parts_of_a_batch_give_its_gradient(tmp_path, name):
    whole, parts = (
        train(tmp_path / str(n), accumulate=n, steps=1, **MODELS[name]).optimisation.module
        for n in (1, 4)
    )
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_command_trains_and_samples(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train nade --model darn --steps 2 --batch-size 16 --latents 4 3"
    words += " --accelerator cpu --num-evaluate 20 --num-samples 4 --show-data --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert RunFolder(out).read_config()["fields"]["latents"] == [4, 3]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape[0] == 5
    assert "nats_bound/test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_widths": ()}, r"hidden_widths is \(\); expected positive widths, at least"),
        ({"hidden_widths": (5, 5)}, "expected one width for the model nade"),
        ({"model": "made", "hidden_widths": (5, 0)}, r"is \(5, 0\); expected positive widths"),
        ({"model": "darn", "latents": ()}, r"latents is \(\); expected positive"),
        ({"model": "darn", "deterministic_widths": (0,)}, r"is \(0,\); expected positive widths$"),
        ({"model": "made", "num_masks": 0}, "num_masks is 0; expected positive"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"binarization": "dither"}, "binarization is 'dither'; expected one of threshold"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NADERecipe(**options)
