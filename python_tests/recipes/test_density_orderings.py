"""Which density an energy's training fits, on eight spots in the plane (Yan 2022, §2.4.6)."""

import pytest

from gencore.recipes.ebm.densities import DensitiesRecipe
from gencore.train import fit

pytest.importorskip("torchdiffeq")


@pytest.mark.slow
def test_the_flow_is_nearer_than_the_energy_and_likelihood_the_better_objective(tmp_path):
    """KL(data‖flow) < KL(data‖exp(−E)/Z) of an energy that is trained with its samples, and the
    flow of the likelihood's objective is at least as likely; neither exceeds −H. Both flows come
    below 1 nat, from the untrained one's log 2π + E‖x‖²/2 − H = 2.18 to the normal.

    The settings were fixed before the outcome was seen; the seeds 1 and 2 have the same orderings.
    """
    measures = {}
    for objective, steps in (("ml", 600), ("flow_mle", 100)):
        recipe = DensitiesRecipe(
            density="eight_gaussians", sampler="ode", objective=objective, steps=steps,
            batch_size=64, hidden_widths=(32, 32), learning_rate=5e-3,
        )  # fmt: skip
        experiment = fit(
            recipe, tmp_path / objective, accelerator="cpu", progress=False, num_samples=0,
            num_evaluate=0,
        )  # fmt: skip
        measures[objective] = experiment.evaluate(1000)
    energies, likelihood = measures["ml"], measures["flow_mle"]
    assert 0 < energies["kl/flow"] < energies["kl/ebm"]
    assert likelihood["log_likelihood/flow"] >= energies["log_likelihood/flow"]
    for measured in measures.values():
        assert 0 < measured["kl/flow"] < 1
        assert measured["log_likelihood/flow"] < measured["negative_entropy"]
        assert measured["mass/flow"] == pytest.approx(1, abs=0.02)
