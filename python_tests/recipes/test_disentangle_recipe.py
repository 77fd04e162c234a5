"""The recipe of the disentangling VAE: its players, partners, resuming, measures and figures."""

import json
from copy import deepcopy

import pytest
import torch
from testing.runs import assert_same, train_with_a_stop

from gencore import cli
from gencore.recipes.latent.disentangle import DisentangleRecipe
from gencore.recipes.loaded_run import load_run
from gencore.train import Batch

fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("PIL.Image")

SIZES = {"batch_size": 8, "steps": 4, "specified_size": 3, "latent_size": 2, "widths": (2, 4)}


def make(**options):
    recipe = DisentangleRecipe(**{**SIZES, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def batch_of(experiment, rows):
    dataset = experiment.dataset
    return Batch(dataset.images[rows], dataset.labels[rows], rows)


def state_of(experiment):
    return {name: deepcopy(part.state_dict()) for name, part in experiment.state.items()}


class TestSteps:
    def test_every_step_moves_both_players(self):
        experiment = make(sample_weight=0.1)
        before = state_of(experiment)
        scalars = experiment.step(batch_of(experiment, torch.arange(8)))
        assert set(scalars) == {
            "loss", "reconstruction", "swap", "kl", "adversarial", "sample_adversarial",
            "discriminator_loss",
        }  # fmt: skip
        for player in ("generator_model", "discriminator_model"):
            for name, weight in experiment.state[player].named_parameters():
                if "table" not in name:  # rows of labels that the batch lacks stay
                    assert not torch.equal(weight, before[player][name]), name

    def test_without_an_adversary_there_is_one_player(self):
        experiment = make(adversarial_weight=0.0)
        before = state_of(experiment)
        scalars = experiment.step(batch_of(experiment, torch.arange(8)))
        assert set(scalars) == {"loss", "reconstruction", "swap", "kl"}
        after = state_of(experiment)
        assert_same(after["discriminator_model"], before["discriminator_model"])

    def test_partners_have_the_same_label_and_any(self):
        experiment = make()
        rows = torch.arange(400)
        key = torch.tensor([3, 0])
        batch = batch_of(experiment, rows)
        same, other = experiment._partners(batch, key)
        labels = experiment.dataset.labels
        assert torch.equal(labels[same], labels[rows])
        assert (same == rows).float().mean() < 0.05
        assert len(labels[other].unique()) == 10
        assert (labels[other] == labels[rows]).float().mean() < 0.2
        parts = [experiment._partners(part, key) for part in batch.split(2)]
        assert torch.equal(torch.cat([part[0] for part in parts]), same)
        assert torch.equal(torch.cat([part[1] for part in parts]), other)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    recipe = DisentangleRecipe(**SIZES, ema_decay=0.9)
    _, whole = train_with_a_stop(tmp_path, recipe, stop=2)
    _, loaded, _, _ = load_run(tmp_path / "whole", "cpu", with_data=False)
    samples = [e.sample(20, torch.Generator().manual_seed(0)) for e in (loaded, whole)]
    assert torch.equal(*samples)
    assert samples[0].shape == (20, 1, 8, 8)


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    words = ["--batch-size=8", "--steps=2", "--specified-size=3", "--latent-size=2"]
    words += ["--num-samples=4", "--num-evaluate=40"]
    command = ["train", "disentangle", "--accelerator", "cpu", "--out", str(out), *words]
    assert cli.main(command) == 0
    measures = json.loads((out / "metrics.json").read_text())
    for name in ("s", "z_mean", "z_sampled", "chance"):
        assert 0 <= measures[f"probe_error/{name}"] <= 1
    assert 0 <= measures["retrieval_error/s"] <= 1
    assert measures["squared_error/test"] > 0
    for name in ("swap.png", "interpolation.png", "samples_of_s.png"):
        assert (out / "figures" / name).is_file()
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"latent_size": 0}, "latent_size is 0; expected positive"),
            ({"swap_weight": -1.0}, "swap_weight is -1.0"),
            ({"widths": (4, 0)}, r"widths is \(4, 0\); expected positive numbers"),
        ],
    )
    def test_those_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"DisentangleRecipe: {message}"):
            DisentangleRecipe(**options)

    def test_sides_that_do_not_fit(self):
        with pytest.raises(ValueError, match="the images are 8x8; expected sides that are multip"):
            make(widths=(2, 2, 2, 2, 2))

    def test_images_need_labels(self, tmp_path):
        import numpy as np

        np.save(tmp_path / "images.npy", np.zeros((20, 8, 8), np.uint8))
        with pytest.raises(ValueError, match="have no labels, which say what two of them"):
            make(data=str(tmp_path / "images.npy"))

    def test_presets_have_the_codes_of_the_text_and_of_the_table(self):
        text, table = (
            DisentangleRecipe.preset(f"mathieu2017-mnist{name}") for name in ("", "-table")
        )
        assert (text.specified_size, text.latent_size) == (16, 16)
        assert (table.specified_size, table.latent_size) == (64, 512)
        assert text.widths == table.widths == (16, 32, 64, 128)
