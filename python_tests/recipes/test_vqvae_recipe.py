"""The recipe of VQ-VAE: its two stages, resuming, measures, figures and the command line."""

import json
import math
from copy import deepcopy

import pytest
import torch
from testing.runs import assert_same, train_with_a_stop

from gencore import cli
from gencore.metrics import psnr
from gencore.recipes.autoregressive.vqvae import VQVAERecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "vq_steps": 2, "steps": 5, "batch_size": 8, "hidden_channels": 4, "num_codes": 8,
    "code_dim": 4, "prior_channels": 4, "prior_layers": 1, "prior_embedding": 2,
}  # fmt: skip


def make(**options):
    recipe = VQVAERecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, dataset)


def step(experiment, number):
    start = 8 * number
    return experiment.step(
        Batch(experiment.dataset.images[start : start + 8], None, torch.arange(start, start + 8))
    )


def state_of(experiment, prefix=""):
    return {
        name: part.state_dict()
        for name, part in experiment.state.items()
        if name.startswith(prefix)
    }


class TestStages:
    def test_first_the_autoencoder_then_the_prior_is_trained(self):
        experiment = make()
        weights = {
            name: deepcopy(state_of(experiment, f"{name}_model")) for name in ("vq", "prior")
        }
        for number in range(2):
            assert experiment.prior is None
            scalars = step(experiment, number)
            assert set(scalars) == {"loss", "bits_per_dim", "perplexity", "grad_norm"}
        assert_same(state_of(experiment, "prior_model"), weights["prior"])
        with pytest.raises(AssertionError):
            assert_same(state_of(experiment, "vq_model"), weights["vq"])
        weights["vq"] = deepcopy(state_of(experiment, "vq_model"))
        assert set(step(experiment, 2)) == {"bits_per_code", "grad_norm"}
        assert experiment.prior is not None
        assert_same(state_of(experiment, "vq_model"), weights["vq"])
        with pytest.raises(AssertionError):
            assert_same(state_of(experiment, "prior_model"), weights["prior"])

    def test_the_prior_is_trained_on_the_codes(self):
        """The first of its losses is its code length of them, before it moves."""
        experiment = make(vq_steps=1, ema_decay=None)
        step(experiment, 0)
        images = experiment.dataset.images[8:16]
        codes = experiment.autoencoder.encode(images)
        with torch.no_grad():
            log_prior = experiment.codes.module.log_prob(codes.unsqueeze(1))
        expected = -log_prior.mean() / (16 * math.log(2))
        torch.testing.assert_close(step(experiment, 1)["bits_per_code"], expected)

    @pytest.mark.filterwarnings("ignore:no prior of the codes is trained")
    @pytest.mark.slow
    @pytest.mark.parametrize("first", [1, 4])
    def test_a_resumed_run_is_the_same(self, tmp_path, first):
        """Interrupted in either stage."""
        train_with_a_stop(tmp_path, VQVAERecipe(**SMALL), stop=first)


class TestMeasures:
    def test_they_are_those_of_the_model(self):
        experiment = make()
        for number in range(4):
            step(experiment, number)
        num = len(experiment.test)
        measures = experiment.evaluate(10**6)
        model, prior = experiment.autoencoder, experiment.prior
        images = experiment.test.images
        with torch.no_grad():
            for name, given in (("uniform_prior", None), ("prior", prior)):
                bits = -model.log_prob_bound(images, given).double().mean() / (64 * math.log(2))
                assert measures[f"bits_per_dim/test/{name}"] == pytest.approx(bits.item(), rel=1e-5)
            decoded = model.reconstruct(images).round().to(torch.uint8)
        assert measures["psnr"] == pytest.approx(psnr(decoded, images).mean().item(), rel=1e-4)
        assert measures["num_samples"] == num
        gain = measures["bits_per_dim/test/uniform_prior"] - measures["bits_per_dim/test/prior"]
        # 16 codes, and 64 pixels.
        assert gain == pytest.approx((3 - measures["bits_per_code/test"]) / 4, abs=1e-4)
        assert 1 <= measures["perplexity"] <= 8

    def test_without_a_prior_there_is_the_uniform_one(self):
        experiment = make()
        assert "bits_per_dim/test/prior" not in experiment.evaluate(10)
        samples = experiment.sample(3)
        assert samples.shape == (3, 1, 8, 8)
        assert 0 <= samples.min() < samples.max() <= 1

    def test_reconstructions_stand_below_their_images(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns: drawn.update({path.name: (images, columns)}),
        )
        experiment = make()
        experiment.figures(tmp_path / "figures")
        images, columns = drawn["reconstructions.png"]
        rows = (images * 255).round().to(torch.uint8).view(-1, columns, 1, 8, 8)
        decoded = experiment.autoencoder.reconstruct(rows[0]).round()
        torch.testing.assert_close(rows[1].float(), decoded, rtol=0, atol=1)
        assert len(rows) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vq_steps": 0}, "vq_steps is 0; expected positive"),
        ({"num_codes": 1}, "num_codes is 1; expected at least 2"),
        ({"accumulate": 2}, "accumulate is 2, but the code book learns from a whole batch"),
        ({"update": "sgd"}, "update is 'sgd'; expected one of ema, loss"),
        ({"downsampling": 0}, "downsampling is 0; expected positive"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"VQVAERecipe: {message}"):
        VQVAERecipe(**options)


def test_sides_that_do_not_fit():
    with pytest.raises(ValueError, match="downsampling is 4, but the images are 18x18"):
        make(image_size=18)


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "steps": 3, "num_samples": 4, "num_evaluate": 20}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "vqvae", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    assert "bits_per_dim/test/prior" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "reconstructions.png").is_file()
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
