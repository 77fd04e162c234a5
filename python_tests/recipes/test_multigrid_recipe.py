"""The recipe of multi-grid models: its baselines, conditional models, resuming, the command."""

import json
from copy import deepcopy

import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from testing.runs import assert_same, train

from gencore import cli
from gencore.data import MASK_NAMES, hidden_pixels, load_images, to_float
from gencore.metrics import inpainting_scores
from gencore.nn import block_mean
from gencore.recipes.ebm.multigrid import MultiGridRecipe
from gencore.train import Batch, Diverged
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL")

SMALL = {"data": "digits", "chain_steps": 2, "batch_size": 4}
METHODS = [
    {},
    {"single_grid": True, "synthesis_noise": False, "clamp": False},
    {"single_grid": True, "chains": "data", "sampling_steps": 3},
    {"chains": "persistent", "buffer_size": 10, "conditional": True},
    {"conditional": True, "accumulate": 2, "energy_penalty": 0.1},
]


def make(**options):
    recipe = MultiGridRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, dataset), dataset.images


def rows(images, start, end):
    return Batch(images[start:end], None, torch.arange(start, end))


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


class TestExperiment:
    @pytest.mark.parametrize("options", METHODS)
    def test_a_step_trains_every_grid_and_samples_are_images(self, options):
        experiment, images = make(**options)
        before = [weights(energy) for energy in experiment.ebm.energies]
        logs = experiment.step(rows(images, 0, 4))
        assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
        for energy, weight in zip(experiment.ebm.energies, before, strict=True):
            assert not torch.equal(weights(energy), weight)
        samples = experiment.sample(5)
        assert samples.shape == (5, *images.shape[1:])
        assert 0 <= samples.min() < samples.max() <= 1

    def test_its_state_is_all_that_the_next_steps_depend_on(self):
        options = {"chains": "persistent", "buffer_size": 10}
        source, images = make(**options)
        source.step(rows(images, 0, 4))
        state = {name: deepcopy(part.state_dict()) for name, part in source.state.items()}
        target, _ = make(**options, seed=1)
        for name, part in target.state.items():
            part.load_state_dict(state[name])
        for experiment in (source, target):
            torch.manual_seed(2)
            experiment.step(rows(images, 4, 8))
        one, other = (e.sample(8, torch.Generator().manual_seed(0)) for e in (source, target))
        assert torch.equal(one, other)

    def test_persistent_chains_begin_at_data_and_go_on(self):
        experiment, images = make(chains="persistent", buffer_size=10, step_size=1e-9,
                                  noise_scale=0.0)  # fmt: skip
        data = to_float(images, -1, 1)
        for buffer, grid in zip(experiment.buffers, (block_mean(data, 2), data), strict=True):
            distance = (buffer.chains[:, None] - grid).abs().amax((2, 3, 4)).amin(1)
            assert (distance == 0).all()
        fine = experiment.buffers[1]
        before = fine.chains.clone()
        experiment.step(rows(images, 0, 4))
        moved = (fine.chains != before).flatten(1).any(1)
        assert (fine.chains - before).abs().max() < 1e-6
        assert moved.sum() <= 4

    def test_divergence_stops_before_the_weights_move(self):
        experiment, images = make(max_gap=1e-9)
        before = weights(experiment.ebm)
        with pytest.raises(Diverged, match="differ by more than 1e-09"):
            experiment.step(rows(images, 0, 4))
        assert torch.equal(weights(experiment.ebm), before)

    def test_measures_of_hidden_pixels(self):
        """Beside those of a constant colour: of a digit's squares that is easy to check."""
        experiment, _ = make(conditional=True)
        measures = experiment.evaluate(6)
        names = {
            f"inpainting_{score}/{mask}/{kind}"
            for score in ("error", "psnr") for mask in MASK_NAMES
            for kind in ("filled", "visible_mean")
        }  # fmt: skip
        assert measures.keys() == {"num_samples", *names}
        assert all(value > 0 for value in measures.values())

    @pytest.mark.parametrize("conditional", [False, True])
    def test_figures(self, conditional, tmp_path):
        experiment, _ = make(conditional=conditional)
        experiment.figures(tmp_path / "figures")
        (figure,) = (tmp_path / "figures").iterdir()
        assert figure.name == ("inpainting.png" if conditional else "grids.png")


def test_a_run_resumes_bit_for_bit(tmp_path):
    options = {**SMALL, "chains": "persistent", "buffer_size": 10, "conditional": True}
    quick = {"num_evaluate": 4, "num_samples": 0}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, MultiGridRecipe(**options, steps=4), **quick)
    train(parts, MultiGridRecipe(**options, steps=2), **quick)
    train(parts, MultiGridRecipe(**options, steps=4), resume=True, **quick)
    states = [read_state(run / "checkpoint.safetensors") for run in (whole, parts)]
    assert_same(*(state["state"] for state in states))
    assert (whole / "metrics.json").read_text() == (parts / "metrics.json").read_text()


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = str(tmp_path / "run")
    words = (
        "train multigrid --data digits --steps 2 --batch-size 4 --chain-steps 2 --num-samples 4 "
    )
    words += "--conditional --chains persistent --buffer-size 10 --num-evaluate 4 --accelerator cpu"
    assert cli.main([*words.split(), "--out", out]) == 0
    assert cli.main(["sample", out, "--num", "3", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", out, "--num", "5"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["num_samples"] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, r"step_size is 0\.0; expected positive"),
        ({"sampling_steps": 0}, "sampling_steps is 0; expected positive"),
        ({"grad_clamp": -1.0}, r"grad_clamp is -1\.0; expected positive"),
        ({"noise_scale": -1.0}, r"noise_scale is -1\.0; expected 0 or positive"),
        ({"chains": "noise"}, "chains is 'noise'; expected one of coarse, data, persistent"),
        ({"chains": "persistent", "buffer_size": 3}, "buffer_size is 3; expected at least the 4"),
        ({"buffer_size": 10}, "buffer_size is 10, but it has an effect with chains persistent"),
        ({"image_size": 12}, r"images are 12x12; expected squares of 8, 16, 32, 64 pixels"),
        ({"network": "small16"}, "network is 'small16', for images of 16x16, but they are 8x8"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", MultiGridRecipe.presets)
def test_presets_are_recipes(name):
    recipe = MultiGridRecipe.preset(name)
    assert (recipe.image_size, recipe.network) == (64, "gao2021")
    assert recipe.chain_steps == (1 if "cd1" in name else 40 if "cifar10" in name else 30)


class TestHiddenPixels:
    @pytest.mark.parametrize("size", [(32, 32), (16, 24)])
    def test_as_many_as_the_source_says(self, size):
        generator = torch.Generator().manual_seed(0)
        masks = {name: hidden_pixels(name, 200, size, generator=generator) for name in MASK_NAMES}
        pixels, side = size[0] * size[1], min(size) // 2
        assert (masks["square"].sum((1, 2, 3)) == side**2).all()
        assert (masks["doodle"].sum((1, 2, 3)) == pixels // 4).all()
        share = masks["pepper"].float().mean().item()
        assert share == pytest.approx(0.6, abs=4.5 * (0.24 / (200 * pixels)) ** 0.5)
        for mask in masks.values():  # everywhere, and another one for each image
            assert mask.any(0).float().mean() > 0.9
            assert len(mask.unique(dim=0)) > 50

    @pytest.mark.parametrize("name", MASK_NAMES)
    def test_parts_are_those_of_the_whole(self, name):
        key = torch.tensor([3, 4])
        whole = hidden_pixels(name, 7, (16, 16), key=key)
        assert torch.equal(hidden_pixels(name, 4, (16, 16), key=key, first=3), whole[3:])
        assert hidden_pixels(name, 0, (16, 16)).shape == (0, 1, 16, 16)

    def test_wrong_input_is_named(self):
        with pytest.raises(ValueError, match="name is 'line'; expected one of square, doodle"):
            hidden_pixels("line", 1, (4, 4))
        with pytest.raises(ValueError, match="size is 1x4; expected sides of 2 or more"):
            hidden_pixels("square", 1, (1, 4))


def test_scores_look_at_hidden_pixels_alone():
    y = load_images("digits").images[:3].double() / 255
    is_free = hidden_pixels("square", 3, (8, 8))
    offset = torch.tensor([0.1, 0.2, 0.05]).double().view(3, 1, 1, 1)
    filled = torch.where(is_free, y + offset, 7.0)
    scores = inpainting_scores(filled, y, is_free)
    torch.testing.assert_close(scores.error, offset.flatten())
    torch.testing.assert_close(scores.psnr, -20 * offset.flatten().log10())
    with pytest.raises(ValueError, match=r"is_free has shape \[3, 8, 8\]; expected \[B, 1, H, W\]"):
        inpainting_scores(filled, y, is_free[:, 0])


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    """Grids, masks and persistent chains: the same weights but for rounding."""
    words = "train multigrid --data digits --steps 4 --chain-steps 4 --batch-size 8 --conditional "
    words += "--chains persistent --buffer-size 20 --noise-scale 0.05"
    results = []
    for run in run_on_one_and_two([*words.split(), *TRAIN_ALONE], tmp_path):
        state = read_state(run.checkpoint)["state"]
        parts = [*state["model"].values(), state["buffers"]["1.chains"]]
        loss = torch.tensor(read_log(run.log)["loss"][-1:])
        results.append(torch.cat([*(part.flatten() for part in parts), loss]))
    # Adam's first steps turn the rounding of gradients near 0 into steps of its rate, for a few.
    difference = (results[0] - results[1]).abs()
    assert difference.quantile(0.9) < 1e-5
    assert difference.max() < 1e-3
