"""M16: a third frame that is skipped or not, by chance, is told by the latents."""

import pytest
import torch
from testing.uncertain_films import trained_model, uncertain_films, uncertainty_measures

from gencore.inference import LatentDistribution


@pytest.fixture(scope="module")
def model():
    return trained_model("velocity", 600, seed=0)


@pytest.mark.slow
def test_m16_predictions_are_sharp_and_latents_tell_what_happened(model):
    measures = uncertainty_measures(model)
    assert measures["error"] < 0.05 * measures["average"]
    assert measures["probe"] > 0.94


@pytest.mark.slow
def test_m16_so_does_the_form_as_printed():
    measures = uncertainty_measures(trained_model("eq3.11", 1500, seed=0))
    assert measures["error"] < 0.05 * measures["average"]
    assert measures["probe"] > 0.94


@pytest.mark.slow
def test_m16_latents_drawn_from_their_estimate_give_one_of_both_futures(model):
    """The squared distance to the nearer future is below that of their average, by how much depends
    on the rounding of a CPU (0.13 to 0.59 of it with seeds 0 and 1); latents
    drawn from a Gaussian, half of which are between the two kinds, do worse."""
    generator = torch.Generator().manual_seed(2)
    films, _, _ = uncertain_films(2000, generator)
    delta = model.infer(*films.unbind(1))
    films, futures, _ = uncertain_films(2000, generator)

    def error(form):
        drawn = LatentDistribution(delta, form).sample(2000, generator=generator)
        with torch.no_grad():
            predicted = model(films[:, 0], films[:, 1], drawn)
        return (predicted[:, None] - futures).square().sum(2).amin(1).mean().item()

    average = (futures.mean(1) - futures[:, 0]).square().sum(1).mean().item()
    errors = {form: error(form) for form in ("empirical", "kde", "gaussian")}
    assert errors["empirical"] < 0.75 * average
    assert errors["empirical"] < errors["kde"] < errors["gaussian"]


@pytest.mark.long
@pytest.mark.parametrize("form", ["velocity", "eq3.11"])
@pytest.mark.parametrize("seed", range(4))
def test_m16_table(form, seed):
    """The table of docs/uncertainty.md; -s shows its lines."""
    measures = uncertainty_measures(trained_model(form, 1500, seed=seed))
    print(form, seed, {name: round(value, 4) for name, value in measures.items()})
    assert measures["error"] < 0.05 * measures["average"]
    assert measures["probe"] > 0.7  # of chance's 0.5; how much more depends on the seed
