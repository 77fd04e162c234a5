"""Which spots of a density generators reach: what the documents order (Lucas 2020, §4.5.1)."""

from statistics import median

import pytest

from gencore.recipes.adversarial.toygan import ToyGANRecipe
from gencore.train import fit


def coverage(folder, method, seed, steps):
    recipe = ToyGANRecipe.preset(method, spot_std=0.02, seed=seed, steps=steps)
    experiment = fit(
        recipe, folder / f"{method}-{seed}", accelerator="cpu", progress=False, num_samples=0,
        num_evaluate=0, loggers=(),
    )  # fmt: skip
    return experiment.evaluate(2000)


@pytest.mark.slow
def test_batches_reach_the_spots_more_evenly_than_points(tmp_path):
    """Of five seeds none had KL divergences, or energy distances, in the order of another."""
    points, batches = (coverage(tmp_path, method, 0, steps=1200) for method in ("gan", "bgan"))
    assert batches["modes"] >= 6
    assert batches["kl_to_uniform"] < points["kl_to_uniform"]
    assert batches["energy_distance/samples"] < points["energy_distance/samples"]


@pytest.mark.long
def test_batches_reach_the_spots_of_a_ring_and_evenly(tmp_path):
    """Medians over the next three seeds: a discriminator of batches has samples at six spots or
    more, and their counts are nearer to equal ones than with a discriminator of points."""
    found = {
        method: [coverage(tmp_path, method, seed, steps=1200) for seed in range(1, 4)]
        for method in ("gan", "bgan")
    }
    print(found)
    assert median(run["modes"] for run in found["bgan"]) >= 6
    divergence = {
        method: median(run["kl_to_uniform"] for run in runs) for method, runs in found.items()
    }
    assert divergence["bgan"] < divergence["gan"]
