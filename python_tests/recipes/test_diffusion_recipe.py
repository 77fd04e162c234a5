"""The recipe of diffusion models: training, its measures, resuming, the command line."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gencore import cli
from gencore.recipes.diffusion.diffusion import DiffusionRecipe
from gencore.recipes.diffusion.diffusion_experiment import (
    DiffusionExperiment,
    _even_levels,
    make_network,
)
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {"width": 4, "batch_size": 8, "levels": 20, "last_variance": 0.5, "chain_steps": 5}


def make(**options: object) -> DiffusionExperiment:
    recipe = DiffusionRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def rows(experiment: DiffusionExperiment, start: int, end: int) -> Batch:
    return Batch(experiment.dataset.images[start:end], None, torch.arange(start, end))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"predicts": "start", "variance": "learned", "attention_scales": (0,)},
        {"predicts": "mean", "loss": "bound", "variance": "step", "dropout": 0.5},
        {"chain_steps": None, "eta": 0.0},
        {"data": "photos", "image_size": 16},
    ],
)
def test_a_step_trains_and_samples_are_images(options: dict[str, object]) -> None:
    experiment = make(**options)
    before = weights(experiment.optimisation.module)
    logs = experiment.step(rows(experiment, 0, 8))
    assert logs.keys() == {"loss", "grad_norm"}
    assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
    assert not torch.equal(weights(experiment.optimisation.module), before)
    samples = experiment.sample(5)
    assert samples.shape == (5, *experiment.image_shape)
    assert 0 <= samples.min() < samples.max() <= 1


def test_its_state_is_all_that_the_next_steps_depend_on() -> None:
    source, target = make(dropout=0.2), make(dropout=0.2, seed=1)
    source.step(rows(source, 0, 8))
    for name, part in target.state.items():
        part.load_state_dict(deepcopy(source.state[name].state_dict()))
    for experiment in (source, target):
        torch.manual_seed(2)
        experiment.step(rows(experiment, 8, 16))
    one, other = (e.sample(4, torch.Generator().manual_seed(0)) for e in (source, target))
    assert torch.equal(one, other)


def test_parts_of_a_batch_move_the_weights_as_the_whole() -> None:
    moved = []
    for accumulate in (1, 2):
        experiment = make(accumulate=accumulate)
        torch.manual_seed(3)
        experiment.step(rows(experiment, 0, 8))
        moved.append(weights(experiment.optimisation.module))
    torch.testing.assert_close(*moved, rtol=0, atol=1e-5)


def test_measures_add_up_and_the_best_variances_are_better() -> None:
    experiment = make()
    measures = experiment.evaluate(200)
    bits = {name.partition("/")[2]: value for name, value in measures.items() if "bits" in name}
    terms = sum(bits[name] for name in ("prior", "steps", "reconstruction"))
    assert bits["test"] == pytest.approx(terms, rel=1e-6)
    assert bits["optimal_variances"] < bits["test"]
    assert bits["full_gaussian"] < bits["independent_gaussian"] < 8
    assert measures["frechet_pixels/train"] < measures["frechet_pixels/samples"]


def test_a_model_that_knows_nothing_takes_the_bits_of_its_noise() -> None:
    """One step to pure noise, and a prediction that is grey: levels are those of N(0, β)."""
    experiment = make(levels=1, chain_steps=1, variance="step", predicts="start",
                      first_variance=0.9999)  # fmt: skip
    bits = experiment.evaluate(300)
    x = experiment.test.images.double() / 127.5 - 1
    edges = torch.linspace(-1, 1, 256, dtype=torch.float64)
    cdf = torch.special.ndtr((edges[:-1] + edges[1:]) / 2 / 0.9999**0.5)
    mass = torch.cat([torch.zeros(1), cdf, torch.ones(1)]).diff()
    expected = -mass[experiment.test.images.long()].log2().mean().item()
    assert x.abs().max() <= 1
    assert bits["bits_per_dim/reconstruction"] == pytest.approx(expected, abs=0.02)


def test_levels_of_a_chain_are_even() -> None:
    assert _even_levels(1000, 4) == [0, 250, 500, 750, 1000]
    assert _even_levels(3, None) == _even_levels(3, 10) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", DiffusionRecipe.presets)
def test_presets_are_recipes_whose_networks_can_be_made(name: str) -> None:
    recipe = DiffusionRecipe.preset(name)
    with torch.device("meta"):
        network = make_network(recipe, (3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(35.7, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_variance": 0.0}, "first_variance is 0.0"),
        ({"last_variance": 1.0}, "last_variance is 1.0"),
        ({"chain_steps": 0}, "chain_steps is 0"),
        ({"eta": 2.0}, "eta is 2.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"ema_decay": None}, "ema_decay is None"),
        ({"predicts": "score"}, "predicts is 'score'"),
        ({"multipliers": (1, 1, 1, 1, 1)}, "multiples of 16"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.usefixtures("quick_classifier")
def test_the_command_trains_resumes_samples_and_evaluates(tmp_path: Path) -> None:
    words = "train diffusion --width 4 --batch-size 8 --levels 20 --last-variance 0.5 "
    words += "--chain-steps 5 --num-samples 4 --accelerator cpu --num-evaluate 0 --log-every 1"
    for folder, steps in (("whole", ["4"]), ("parts", ["2", "4"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            options = [*again, "--steps", count, "--out", str(tmp_path / folder)]
            assert cli.main([*words.split(), *options]) == 0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()
    assert [path.name for path in (whole / "figures").iterdir()] == ["denoising.png"]
    assert cli.main(["sample", str(whole), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(whole), "--num", "30"]) == 0
