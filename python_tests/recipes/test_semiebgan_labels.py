"""What unlabelled digits and samples are good for (Mathieu 2017, §6.3.2)."""

from statistics import mean

import pytest

from gencore.recipes.adversarial.semiebgan import SemiEBGANRecipe
from gencore.train import fit

pytest.importorskip("sklearn")


@pytest.mark.long
def test_the_game_is_not_worse_than_the_ladder_alone(tmp_path):
    """Ten labels of each digit, mean test error of ten seeds: with the game at most that of the
    ladder network alone, and that below labels alone. See docs/ladder.md.
    """
    errors = {"supervised": [], "ladder": [], "ebgan": []}
    for seed in range(10):
        for objective, found in errors.items():
            experiment = fit(
                SemiEBGANRecipe(objective=objective, seed=seed), tmp_path / f"{objective}{seed}",
                accelerator="cpu", progress=False, num_samples=0, num_evaluate=0,
            )  # fmt: skip
            found.append(100 * experiment.evaluate(1000)["classification_error/test"])
        print(seed, {objective: found[-1] for objective, found in errors.items()}, flush=True)
    means = {objective: mean(found) for objective, found in errors.items()}
    print(means)
    assert means["ebgan"] <= means["ladder"] < means["supervised"]
