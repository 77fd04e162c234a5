"""What a flow is good for as noise (Gao 2021, §4.2.4.1)."""

import pytest

from gencore.recipes.hybrids.fce import FCERecipe
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
    for the game than for Gaussian noise, and no run-away. See docs/flow-contrastive.md.
    """
    errors = {"fce": 0.0, "nce": 0.0}
    for seed in range(3):
        settings = {
            "fce": {
                "steps": 750, "num_layers": 6, "flow_warmup_steps": 150,
                "density_warmup_steps": 450, "cap": 1,
            },
            "nce": {"steps": 525},
        }  # fmt: skip
        for objective, options in settings.items():
            recipe = FCERecipe(objective=objective, seed=seed, **options)
            measures, log = run(recipe, tmp_path / f"{objective}{seed}")
            errors[objective] += measures["log_mse/ebm"] / 3
            if objective == "fce":
                assert sum(log["flow_nll"][-10:]) < sum(log["flow_nll"][:10])
                assert -2 < log["value"][-1] < 0
    assert errors["fce"] < errors["nce"]
