"""The recipe of auto-encoders' energies: variants, resuming, measures, the command line."""

import json

import pytest
import torch
from testing.runs import train_with_a_stop

from gencore import cli
from gencore.data import to_float
from gencore.recipes.ebm.autoencoder import AutoencoderRecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {"steps": 4, "batch_size": 16, "code_size": 12, "active": 3}


def make(**options):
    options = {**SMALL, **options}
    if options.get("variant", "k-sparse") != "k-sparse":
        del options["active"]
    recipe = AutoencoderRecipe(**options)
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)


@pytest.mark.parametrize(
    ("variant", "active"),
    [("bottleneck", 12), ("k-sparse", 3), ("winner-take-all", 1), ("sparse", None),
     ("contractive", 12), ("denoising", 12)],
)  # fmt: skip
def test_a_step_and_the_codes_of_a_variant(variant, active):
    experiment = make(variant=variant)
    weight = experiment.energy.decoder.weight
    scalars = experiment.step(Batch(experiment.dataset.images[:16], None, torch.arange(16)))
    assert scalars["loss"] > 0
    has_penalty = variant in ("sparse", "contractive")
    assert bool(scalars["loss"] > scalars["energy"]) == has_penalty
    assert (weight.norm(dim=0) <= 1 + 1e-6).all()
    codes = experiment.energy.encode(to_float(experiment.dataset.images[:50], 0, 1).flatten(1))
    counts = (codes != 0).sum(1)
    if active is None:
        assert 0 < counts.float().mean() < 12
    else:
        assert (counts == active).all()


def test_the_energy_learns_to_tell_digits_from_other_images():
    experiment = make(steps=200, code_size=32, active=8)
    images = experiment.dataset.images
    before = experiment.evaluate(200)
    for number in range(200):
        start = 16 * number % 1000
        rows = torch.arange(start, start + 16)
        experiment.step(Batch(images[rows], None, rows))
    after = experiment.evaluate(200)
    assert after["energy_per_pixel"] < 0.5 * before["energy_per_pixel"]
    assert after["auroc/uniform_noise"] > 0.99
    assert after["active_share"] == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["contractive", "denoising"])
def test_a_resumed_run_is_the_same(tmp_path, variant):
    recipe = AutoencoderRecipe(batch_size=16, code_size=12, variant=variant, steps=4)
    train_with_a_stop(tmp_path, recipe, stop=2)


def test_a_bottleneck_is_narrow():
    with pytest.raises(ValueError, match="code_size is 64; expected fewer than the 64 numbers"):
        make(variant="bottleneck", code_size=64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "denoising", "noise_std": 0.0}, "noise_std is 0"),
        ({"code_size": 4}, "active is 8; expected at most the 4 components"),
        ({"code_size": 0}, "code_size is 0"),
        ({"variant": "sparse", "active": 3}, "active is 3, but it has an effect with variant"),
        ({"variant": "contractive", "num_probes": 0}, "num_probes is 0"),
        ({"variant": "slow"}, "variant is 'slow'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"AutoencoderRecipe: {message}"):
        AutoencoderRecipe(**options)


def test_the_command_trains_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "num_evaluate": 20}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    words = ["--accelerator", "cpu", "--out", str(out), *words]
    assert cli.main(["train", "autoencoder", *words]) == 0
    assert "auroc/inverted" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "components.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
