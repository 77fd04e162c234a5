"""What a flow as noise, and points without labels, are good for (Gao 2021, §4.2.4)."""

import pytest

from gencore.recipes.hybrids.fce import FCERecipe
from gencore.recipes.hybrids.semifce import SemiFCERecipe
from gencore.train import fit
from gencore.train.logs import read_log


def run(recipe, run_dir):
    experiment = fit(
        recipe, run_dir, accelerator="cpu", progress=False, log_every=10, num_samples=0,
        num_evaluate=0,
    )  # fmt: skip
    return experiment.evaluate(5000), read_log(run_dir / "log.csv")


@pytest.mark.long
def test_the_energy_is_nearer_than_that_of_gaussian_noise(tmp_path):
    """E_p (log p̂ − log p)² on eight spots, mean of three seeds, with no more updates of the energy
    for the game than for Gaussian noise; ∫p near 1, and no run-away. See docs/flow-contrastive.md.
    """
    errors = {"fce": 0.0, "nce": 0.0}
    for seed in range(3):
        settings = {
            "fce": {"steps": 1000, "flow_warmup_steps": 200, "density_warmup_steps": 400},
            "nce": {"steps": 600},
        }
        for objective, options in settings.items():
            recipe = FCERecipe(objective=objective, seed=seed, **options)
            measures, log = run(recipe, tmp_path / f"{objective}{seed}")
            errors[objective] += measures["log_mse/ebm"] / 3
            if objective == "fce":
                assert measures["mass/ebm"] == pytest.approx(1, abs=0.1)
                assert sum(log["flow_nll"][-10:]) < sum(log["flow_nll"][:10])
                assert -2 < log["value"][-1] < 0
    assert errors["fce"] < errors["nce"]


@pytest.mark.long
def test_unlabelled_points_help_to_tell_spirals_apart(tmp_path):
    """Seven labels a spiral, mean accuracy of five seeds: above that of the labels alone."""
    accuracy = {"fce": 0.0, "supervised": 0.0}
    for seed in range(5):
        settings = {
            "fce": {
                "steps": 600, "batch_size": 128, "num_layers": 4, "hidden_widths": (32,),
                "flow_warmup_steps": 100, "density_warmup_steps": 300,
            },
            "supervised": {"steps": 150},
        }  # fmt: skip
        for objective, options in settings.items():
            recipe = SemiFCERecipe(objective=objective, seed=seed, **options)
            measures, _ = run(recipe, tmp_path / f"{objective}{seed}")
            accuracy[objective] += measures["classification_accuracy"] / 5
    assert accuracy["fce"] > accuracy["supervised"]
