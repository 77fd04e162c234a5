"""The recipes of flow contrastive estimation: training, resuming, measures, the command line."""

import json

import numpy as np
import pytest
import torch

from gencore import cli
from gencore.data import load_density
from gencore.recipes.hybrids.fce import FCERecipe
from gencore.recipes.hybrids.fce_experiment import gaussian_noise
from gencore.recipes.hybrids.semifce import SemiFCERecipe
from gencore.recipes.hybrids.semifce_experiment import labelled_points
from gencore.train import Diverged, RunFolder, fit
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

Image = pytest.importorskip("PIL.Image")

SMALL = {"batch_size": 32, "grid_size": 24, "energy_widths": (8, 8)}
SMALL_FLOW = {
    "num_layers": 2, "hidden_widths": (8,), "flow_warmup_steps": 2, "density_warmup_steps": 2,
}  # fmt: skip
SMALL_OF = {
    "fce": {**SMALL, **SMALL_FLOW},
    "mle": {"batch_size": 32, "grid_size": 24, "num_layers": 2, "hidden_widths": (8,)},
    "nce": SMALL,
    "supervised": SMALL,
}


def train(run_dir, recipe=FCERecipe, *, resume=False, num_samples=50, **options):
    options = {"steps": 7, **SMALL_OF[options.get("objective", "fce")], **options}
    return fit(
        recipe(**options), run_dir, accelerator="cpu", progress=False, resume=resume, log_every=1,
        num_samples=num_samples, num_evaluate=100,
    )  # fmt: skip


def metrics(run_dir):
    return json.loads(RunFolder(run_dir).metrics.read_text())


@pytest.mark.parametrize(
    ("objective", "names"), [("fce", {"ebm", "flow"}), ("nce", {"ebm"}), ("mle", {"flow"})]
)
def test_every_objective_trains_and_is_measured(tmp_path, objective, names):
    experiment = train(tmp_path, objective=objective)
    assert experiment.sample(7).shape == (7, 2)
    measures = metrics(tmp_path)
    for kind in ("kl", "log_mse", "mass"):
        assert {name for name in ("ebm", "flow") if f"{kind}/{name}" in measures} == names
    moves = read_log(tmp_path / "log.csv")["flow_moves"]
    if objective == "fce":  # by likelihood, then the energy alone, then both
        assert moves[:4] == [1, 1, 0, 0]
    else:
        assert set(moves) == {float(objective == "mle")}


@pytest.mark.filterwarnings("ignore:the .* is not trained:UserWarning")
def test_players_that_do_not_move_stay_as_they_are(tmp_path):
    for steps in (2, 4):
        train(tmp_path / str(steps), steps=steps, schedule="constant")
    states = [read_state(tmp_path / n / "checkpoint.safetensors")["state"] for n in "24"]
    for name, value in states[0]["flow_model"].items():  # the energy alone moved in steps 2 and 3
        assert torch.equal(value, states[1]["flow_model"][name])
    same = [
        torch.equal(value, states[1]["density_model"][name])
        for name, value in states[0]["density_model"].items()
    ]
    assert not any(same)


@pytest.mark.parametrize("recipe", [FCERecipe, SemiFCERecipe])
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (2, r"the density is not trained: the run has 2 steps, and the first 2 \(flow_warmup"),
        (4, "the flow is not trained against the density: the run has 4 steps, and the first 4"),
    ],
)
def test_a_run_that_ends_before_the_game_warns(tmp_path, recipe, steps, message):
    with pytest.warns(UserWarning, match=message):
        train(tmp_path, recipe, steps=steps)


@pytest.mark.parametrize("recipe", [FCERecipe, SemiFCERecipe])
def test_an_interrupted_run_is_the_straight_one(tmp_path, recipe):
    options = {"schedule": "constant", "ema_decay": 0.9}
    train(tmp_path / "straight", recipe, steps=9, **options)
    train(tmp_path / "two", recipe, steps=5, **options)
    torch.manual_seed(99)
    train(tmp_path / "two", recipe, steps=9, resume=True, **options)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for player in ("density", "flow"):
        for name, value in states[0]["state"][f"{player}_model"].items():
            assert torch.equal(value, states[1]["state"][f"{player}_model"][name])
    assert states[0]["state"]["turns"] == states[1]["state"]["turns"]
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "two")
    logs = [(tmp_path / run / "log.csv").read_text() for run in ("straight", "two")]
    assert logs[0] == logs[1]


def test_the_commands_train_sample_and_evaluate(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train fce --density checkerboard --steps 5 --batch-size 16 --num-layers 2 "
    words += "--hidden-widths 8 --energy-widths 8 --grid-size 16 --flow-warmup-steps 1 "
    words += "--density-warmup-steps 1 --accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 2)
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert metrics(out)["num_samples"] == 30
    assert "mass/ebm" in capsys.readouterr().out
    assert cli.main(["train", "fce", "--objective", "nce", "--cap", "3"]) == 2
    assert "has an effect with objective fce alone" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["fce", "nce", "supervised"])
def test_energies_of_classes_train_and_are_measured(tmp_path, objective):
    num = 40 if objective == "fce" else 0
    experiment = train(
        tmp_path, SemiFCERecipe, objective=objective, num_samples=num, vat_weight=0.5
    )
    measures = metrics(tmp_path)
    assert 0 <= measures["classification_accuracy"] <= 1
    assert ("mass/ebm" in measures) == (objective != "supervised")
    if objective == "fce":
        assert experiment.sample(3).shape == (3, 2)
        assert [path.name for path in (tmp_path / "figures").iterdir()] == ["decision-regions.png"]
    else:
        with pytest.raises(ValueError, match=f"objective {objective} has no flow"):
            train(tmp_path / "other", SemiFCERecipe, objective=objective)


def test_labelled_points_are_of_their_classes_and_stay():
    density = load_density("two_spirals")
    x, label = labelled_points(density, 7, 3)
    assert label.tolist() == [0] * 7 + [1] * 7
    assert torch.equal(x, labelled_points(density, 7, 3)[0])
    # The arms are a third of π apart and more: a point is next to its own.
    t = torch.linspace(0.5 * torch.pi, 3 * torch.pi, 2000)
    arms = [curve(t) for curve in density.curves]
    nearest = torch.stack([torch.cdist(x, arm).amin(1) for arm in arms]).argmin(0)
    assert torch.equal(nearest, label)


def test_gaussian_noise_has_the_moments_of_the_data():
    density = load_density("two_moons")
    x = gaussian_noise(density).sample(20_000, key=torch.tensor([1, 0]))
    data = density.sample(20_000, key=torch.tensor([2, 0]))
    for of_noise, of_data in ((x.mean(0), data.mean(0)), (x.std(0), data.std(0))):
        torch.testing.assert_close(of_noise, of_data, atol=0.03, rtol=0)


def test_a_flow_that_leaves_the_data_stops_the_run(tmp_path):
    with pytest.raises(Diverged, match=r"more than 0\.5: the game has led it away"):
        train(tmp_path, max_nll=0.5)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (FCERecipe, {"objective": "gan"}, "objective is 'gan'; expected one of fce, nce, mle"),
        (FCERecipe, {"cap": 0}, "cap is 0"),
        (FCERecipe, {"flow_warmup_steps": -1}, "flow_warmup_steps is -1"),
        (FCERecipe, {"energy_widths": ()}, "energy_widths is"),
        (FCERecipe, {"objective": "nce", "num_layers": 4}, "with objective fce or mle alone"),
        (SemiFCERecipe, {"labels_per_class": 0}, "labels_per_class is 0"),
        (SemiFCERecipe, {"vat_weight": -1.0}, "vat_weight is -1"),
    ],
)
def test_wrong_options_are_named(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        recipe(**options)


def test_presets_are_recipes():
    for name in FCERecipe.presets:
        recipe = FCERecipe.preset(name)
        assert (recipe.learning_rate, recipe.flow_learning_rate) == (3e-4, 1e-5)
