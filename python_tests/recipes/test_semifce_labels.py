"""What unlabelled points are good for (Gao 2021, §4.2.4.4)."""

import pytest

from gencore.recipes.hybrids.semifce import SemiFCERecipe
from gencore.train import fit


@pytest.mark.long
def test_unlabelled_points_help_on_spirals(tmp_path):
    """Two spirals with 7 + 7 labels, five seeds: the game with a flow classifies more of the test
    points than the labels alone, for each seed. See docs/flow-contrastive.md.
    """
    for seed in range(5):
        accuracy = {}
        for objective in ("supervised", "fce"):
            recipe = SemiFCERecipe(objective=objective, seed=seed, steps=3000)
            experiment = fit(
                recipe, tmp_path / f"{objective}{seed}", accelerator="cpu", progress=False,
                num_samples=0, num_evaluate=0,
            )  # fmt: skip
            accuracy[objective] = experiment.evaluate(2000)["classification_accuracy"]
        print(seed, accuracy)
        assert accuracy["fce"] > accuracy["supervised"]
