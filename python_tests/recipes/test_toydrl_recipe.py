"""The recipe of diffusion recovery likelihood on the plane."""

import json

import numpy as np
import pytest
import torch

from gencore import cli
from gencore.data import load_density
from gencore.metrics import energy_distance
from gencore.recipes.diffusion.toydrl import ToyDRLRecipe
from gencore.train import Diverged, RunFolder, fit
from gencore.train.state_file import read_state

Image = pytest.importorskip("PIL.Image")

SMALL = {
    "batch_size": 32, "hidden_widths": (16, 16), "grid_size": 30, "chain_steps": 4, "levels": 3,
}  # fmt: skip


def train(run_dir, *, resume=False, num_evaluate=100, **options):
    recipe = ToyDRLRecipe(**{"steps": 3, **SMALL, **options})
    return fit(
        recipe, run_dir, accelerator="cpu", progress=False, resume=resume, log_every=1,
        num_samples=50, num_evaluate=num_evaluate,
    )  # fmt: skip


def metrics(run_dir):
    return json.loads(RunFolder(run_dir).metrics.read_text())


@pytest.mark.parametrize("options", [{}, {"spectral_norm": True}, {"chain_steps": 0}], ids=str)
def test_it_trains_and_is_measured(tmp_path, options):
    experiment = train(tmp_path, **options)
    assert experiment.sample(7).shape == (7, 2)
    measures = metrics(tmp_path)
    assert measures["kl/ebm"] > 0
    assert measures["log_likelihood/ebm"] < measures["log_likelihood/true"]
    assert abs(measures["energy_distance/data"]) < 0.1 < measures["energy_distance/noise"]
    points = experiment.grid.points("cpu")
    for t in range(3):  # what the figure calls the data's density at a level
        log_mass = experiment.grid.log_integral(experiment._true_log_density(t, points))
        assert log_mass == pytest.approx(0, abs=0.02)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (3 * 352, 3 * 385)


def test_an_interrupted_run_is_the_straight_one(tmp_path):
    train(tmp_path / "straight", steps=6, schedule="constant")
    train(tmp_path / "two", steps=3, schedule="constant")
    torch.manual_seed(99)
    train(tmp_path / "two", steps=6, schedule="constant", resume=True)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for part in ("model", "ema"):
        for name, value in states[0]["state"][part].items():
            assert torch.equal(value, states[1]["state"][part][name])
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "two")


def test_the_command_trains_samples_and_evaluates(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train toydrl --density two_moons --steps 2 --batch-size 16 --hidden-widths 8 8 "
    words += "--grid-size 16 --levels 2 --chain-steps 2 --accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert RunFolder(out).read_config()["fields"]["hidden_widths"] == [8, 8]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 2)
    assert cli.main(["sample", str(out), "--accelerator", "cpu"]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert metrics(out)["num_samples"] == 30
    assert "energy_distance/samples" in capsys.readouterr().out


def test_divergence_stops_the_run(tmp_path):
    with pytest.raises(Diverged, match="differ by more than"):
        train(tmp_path, max_gap=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"last_variance": 1.0}, "last_variance"),
        ({"chain_steps": -1}, "chain_steps"),
        ({"hidden_widths": ()}, r"hidden_widths is \(\)"),
        ({"accumulate": 2, "spectral_norm": True}, "an energy of its own"),
        ({"input_scale": 0.0}, "input_scale is 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ToyDRLRecipe(**options)


def spots_found(points):
    """Points within three standard deviations of each spot, [8]."""
    density = load_density("eight_gaussians")
    distances = torch.cdist(points.double(), density.centres)
    nearest = distances.argmin(1)[distances.amin(1) < 3 * density.std]
    return torch.bincount(nearest, minlength=len(density.centres))


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_ring(tmp_path, seed):
    """The ring at the end of training: 8 of 8 spots, and at most a third of the noise's distance.

    A broad Gaussian would pass both, so most points have to lie in spots as well: of it a quarter
    do, and of the data 99%.
    """
    recipe = ToyDRLRecipe(seed=seed)
    experiment = fit(recipe, tmp_path, accelerator="cpu", progress=False, num_evaluate=4000)
    measures = metrics(tmp_path)
    points = experiment.sample(2000, torch.Generator().manual_seed(4))
    spots = spots_found(points)
    print(json.dumps({"seed": seed, **measures, "spots": spots.tolist()}))
    assert spots.min() > 100  # of 250
    assert spots.sum() > 1400
    assert measures["energy_distance/samples"] < measures["energy_distance/noise"] / 3
    test = load_density("eight_gaussians").sample(2000, generator=torch.Generator().manual_seed(5))
    assert energy_distance(points, test) < measures["energy_distance/noise"] / 3
