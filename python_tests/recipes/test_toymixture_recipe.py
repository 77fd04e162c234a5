"""The recipe of mixtures on the plane: both starts, resuming, the command, options."""

import json

import pytest
import torch
from testing.runs import assert_same, train

from gencore import cli
from gencore.recipes.latent.toymixture import ToyMixtureRecipe

pytest.importorskip("sklearn")
pytest.importorskip("PIL.Image")

SMALL = {"steps": 4, "batch_size": 32, "grid_size": 24, "start_points": 200}


def run(folder, **options):
    return train(
        folder, ToyMixtureRecipe(**{**SMALL, **options}), num_samples=0, num_evaluate=0,
        resume=folder.exists(),
    )  # fmt: skip


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical", "tied_spherical"])
def test_gradients_raise_the_likelihood_from_random_means(tmp_path, covariance):
    options = {"start": "noise", "learning_rate": 0.05, "covariance": covariance}
    options["start_points"] = ToyMixtureRecipe.start_points  # which has no effect
    first, last = (
        run(tmp_path / str(steps), steps=steps, **options).evaluate(500) for steps in (1, 60)
    )
    assert first["log_likelihood/mixture"] < last["log_likelihood/mixture"]
    assert last["log_likelihood/mixture"] < last["negative_entropy"]


def test_expectation_maximisation_finds_the_spots(tmp_path):
    """Eight components on eight spots: the divergence from the density is near 0."""
    options = {"density": "eight_gaussians", "components": 8, "start_points": 4000}
    assert run(tmp_path / "em", **options, grid_size=60).evaluate(500)["kl/mixture"] < 0.02


def test_a_resumed_run_is_the_same(tmp_path):
    whole = run(tmp_path / "whole", ema_decay=0.9)
    run(tmp_path / "parts", ema_decay=0.9, steps=2)
    resumed = run(tmp_path / "parts", ema_decay=0.9)
    for name, part in whole.state.items():
        assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})
    assert torch.equal(resumed.sample(3, torch.Generator().manual_seed(0)),
                       whole.sample(3, torch.Generator().manual_seed(0)))  # fmt: skip


def test_the_command_trains_and_measures(tmp_path):
    out = tmp_path / "run"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert cli.main(["train", "toymixture", "--accelerator=cpu", f"--out={out}", *words]) == 0
    measures = json.loads((out / "metrics.json").read_text())
    assert measures["kl/mixture"] > 0
    assert (out / "samples.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "components is 0; expected positive"),
        ({"start_points": 5}, "start_points is 5; expected at least one a component, 10"),
        ({"start": "noise", "start_points": 5}, "start_points is 5, but it has an effect with"),
        ({"covariance": "round"}, "covariance is 'round'; expected one of full"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"ToyMixtureRecipe: {message}"):
        ToyMixtureRecipe(**options)
