"""One step's optimisation: parts of a batch, schedules, averages, precision, and a game of two."""

import math
from typing import get_args

import pytest
import torch
from testing.runs import assert_same, train
from testing.toy_recipe import ToyExperiment, ToyRecipe
from torch import nn

from gencore import cli
from gencore.recipes import RecipeRegistry
from gencore.recipes.diffusion.drl import DRLRecipe
from gencore.recipes.ebm.densities import DensitiesRecipe
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.recipes.ebm.multigrid import MultiGridRecipe
from gencore.recipes.flows.glow import GlowRecipe
from gencore.recipes.flows.toyflow import FlowName, ToyFlowRecipe
from gencore.train import (
    Batch,
    Diverged,
    Experiment,
    Optimisation,
    RunFolder,
    SameNoiseError,
    fit,
)
from gencore.train.devices import launch
from gencore.train.logs import read_log
from gencore.train.optimisation import make_scheduler
from gencore.train.rank_noise import refuse_same_noise
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")


class Scalar(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value), dtype=torch.float64))

    def forward(self, x):
        return self.value * x


def descend(module, rate=0.1, **options):
    optimizer = torch.optim.SGD(module.parameters(), rate)
    return Optimisation(launch(accelerator="cpu"), module, optimizer, **options)


def rows(*values):
    x = torch.tensor(values, dtype=torch.float64)
    return Batch(x, None, torch.arange(len(x)))


# Parts


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_parts_of_a_batch_give_the_gradient_and_the_noise_of_the_whole(parts):
    """Parts of unequal sizes, each of which draws its own key and a number for all rows."""

    def weights(accumulate):
        torch.manual_seed(0)
        network = nn.Linear(3, 2).double()
        optimisation = descend(network, accumulate=accumulate)
        batch = Batch(torch.ones(7, 3, dtype=torch.float64), None, torch.arange(7))

        def loss(part):
            noise = part.normal() + part.uniform() * torch.rand(())
            return {"loss": optimisation.model(part.x + noise).square().mean()}

        values = [optimisation.step(batch, loss)["loss"] for _ in range(3)]
        return torch.stack(values), network.weight, torch.rand(())

    for part, whole in zip(weights(parts), weights(1), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-12, atol=0)


def test_the_rows_of_a_batch_are_split_in_order():
    batch = Batch(torch.arange(7), torch.arange(7) % 2, torch.arange(10, 17), first=7)
    parts = batch.split(3)
    assert [len(part) for part in parts] == [2, 2, 3]
    assert [part.first for part in parts] == [7, 9, 11]
    assert torch.cat([part.index for part in parts]).equal(batch.index)
    assert torch.cat([part.label for part in parts]).equal(batch.label)
    assert len(batch.split(10)) == 7


def test_noise_of_rows_is_the_same_for_any_split():
    key = torch.tensor([5, 0])
    whole = Batch(torch.zeros(5, 3), None, torch.arange(5))
    parts = whole.split(2)
    for name in ("normal", "uniform"):
        for shape in (None, (), (2, 2)):
            noise = getattr(whole, name)(shape, key=key)
            assert noise.shape[1:] == (whole.x.shape[1:] if shape is None else shape)
            assert torch.cat([getattr(part, name)(shape, key=key) for part in parts]).equal(noise)
    many = Batch(torch.zeros(100_000), None, torch.arange(100_000)).uniform(key=key)
    assert 0 <= many.min() < many.max() < 1
    for power in (1, 2, 3):  # moments of U[0, 1), and their Monte Carlo errors
        error = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / len(many))
        assert abs(many.pow(power).mean() - 1 / (power + 1)) < 4 * error


# What a step does


def test_a_step_descends_cuts_and_averages():
    """On L = w·x̄ the gradient is x̄, whatever w."""
    module = Scalar(1.0)
    optimisation = descend(module, max_grad_norm=1.0, ema_decay=0.75)
    assert list(optimisation.state) == ["model", "optimizer", "ema"]
    for grad, value, average in ((0.5, 0.95, 0.95), (4.0, 0.85, 0.925)):
        scalars = optimisation.step(
            rows(grad), lambda part: {"loss": optimisation.model(part.x).mean()}
        )
        assert scalars["grad_norm"] == pytest.approx(grad)
        assert module.value.item() == pytest.approx(value)
        assert optimisation.averaged.value.item() == pytest.approx(average)
    assert descend(module).averaged is module


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 0.75, 1, 1, 1, 1]),
        ("linear", [0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]),
        (
            "cosine",
            [0.5, 0.75, 1, *(0.5 + 0.5 * math.cos(math.pi * s) for s in (0.25, 0.5, 0.75, 1))],
        ),
    ],
)
def test_the_learning_rate_warms_up_and_falls(schedule, factors):
    module = Scalar(0)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    scheduler = make_scheduler(optimizer, schedule, warmup_steps=2, steps=6)
    rates = []
    for _ in factors:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1 * factor for factor in factors], abs=1e-12)
    assert make_scheduler(optimizer, "constant", warmup_steps=0, steps=6) is None


def test_a_loss_that_is_not_finite_moves_nothing():
    module = Scalar(1.0)
    optimisation = descend(module, ema_decay=0.5, advice="less")
    with pytest.raises(Diverged, match="loss is nan") as caught:
        optimisation.step(rows(math.nan), lambda part: {"loss": optimisation.model(part.x).mean()})
    assert caught.value.advice == "less"
    assert module.value.item() == 1


def test_a_game_has_two():
    """min over a, max over b of a·b + (a² − b²)/2: gradient descent and ascent in turn shrink both
    as the linear map a' = (1 − r)a − rb, b' = (1 − r)b + ra'."""
    players, rate = (Scalar(1.0), Scalar(-2.0)), 0.1
    first, second = (descend(player, rate) for player in players)
    a, b = 1.0, -2.0
    for _ in range(5):
        first.step(rows(1.0), lambda part: {
            "a": (first.model(part.x) * players[1].value.detach()
                  + first.model(part.x).square() / 2).mean()
        })  # fmt: skip
        second.step(rows(1.0), lambda part: {
            "b": -(second.model(part.x) * players[0].value.detach()
                   - second.model(part.x).square() / 2).mean()
        })  # fmt: skip
        a = (1 - rate) * a - rate * b
        b = (1 - rate) * b + rate * a
        assert [player.value.item() for player in players] == pytest.approx([a, b])


# Options of recipes


def test_a_run_with_a_schedule_and_parts_resumes_as_if_it_had_not_stopped(tmp_path):
    options = {"schedule": "cosine", "accumulate": 3, "ema_decay": 0.9, "batch_size": 16}
    quick = {"num_samples": 0, "num_evaluate": 0, "log_every": 1, "progress": False}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(ToyFlowRecipe(steps=6, **options), whole, checkpoint_every=3, keep_every=3, **quick)
    fit(ToyFlowRecipe(steps=6, **options), parts, checkpoint_every=3, keep_every=3, **quick)
    fit(ToyFlowRecipe(steps=6, **options), parts, resume_from=3, **quick)
    assert_same(*(read_state(run / "checkpoint.safetensors") for run in (whole, parts)))


def test_more_steps_stretch_a_schedule_as_if_it_had_been_meant(tmp_path):
    """Learning rates after a resume with more steps are those of a run of that many."""
    quick = {"num_samples": 0, "num_evaluate": 0, "progress": False}
    options = {"schedule": "cosine", "warmup_steps": 1, "batch_size": 16}
    fit(ToyFlowRecipe(steps=4, **options), tmp_path / "run", **quick)
    fit(ToyFlowRecipe(steps=8, **options), tmp_path / "run", resume=True, **quick)
    fit(ToyFlowRecipe(steps=8, **options), tmp_path / "whole", **quick)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("run", "whole")]
    assert_same(*(state["state"]["scheduler"] for state in states))
    config = RunFolder(tmp_path / "run").read_config()
    assert config["changes"] == [{"step": 4, "steps": [4, 8]}]


def test_moments_keep_the_layout_of_their_parameters(tmp_path):
    """A fused optimiser reads both as they lie in memory."""
    options = {
        "model": "realnvp", "num_levels": 1, "num_steps": 1, "hidden_channels": 8, "batch_size": 8,
    }  # fmt: skip
    quick = {"num_samples": 0, "num_evaluate": 0, "progress": False}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(GlowRecipe(steps=4, **options), whole, **quick)
    fit(GlowRecipe(steps=2, **options), parts, **quick)
    fit(GlowRecipe(steps=4, **options), parts, resume=True, **quick)
    states = [read_state(run / "checkpoint.safetensors") for run in (whole, parts)]
    assert_same(*(state["state"] for state in states))


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        *((ToyFlowRecipe, {"model": model, "num_layers": 2}) for model in get_args(FlowName)),
        *((DensitiesRecipe, {"sampler": name}) for name in ("langevin", "ode", "euler")),
        (EBMRecipe, {"chain_steps": 2}),
        (DRLRecipe, {"chain_steps": 2, "num_levels": 2}),
        (MultiGridRecipe, {"chain_steps": 2, "data": "digits"}),
        (GlowRecipe, {"num_steps": 1, "hidden_channels": 8}),
        (GlowRecipe, {"num_steps": 1, "hidden_channels": 8, "model": "realnvp"}),
    ],
)
def test_every_recipe_trains_in_bfloat16(tmp_path, recipe, options):
    made = recipe(steps=2, batch_size=8, precision="bf16-mixed", **options)
    fit(made, tmp_path / "run", num_samples=4, num_evaluate=4, progress=False)


def test_parts_follow_the_whole_in_a_recipe(tmp_path):
    columns = []
    for accumulate in (1, 4):
        recipe = ToyFlowRecipe(steps=5, batch_size=64, accumulate=accumulate)
        run = tmp_path / str(accumulate)
        fit(recipe, run, num_samples=0, num_evaluate=0, log_every=1, progress=False)
        columns.append(read_log(run / "log.csv")["negative_log_likelihood"])
    assert columns[0] == pytest.approx(columns[1], abs=1e-4)


def test_losses_are_computed_in_the_precision_that_the_recipe_names(tmp_path):
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        recipe = ToyFlowRecipe(steps=3, batch_size=64, precision=precision)
        run = tmp_path / precision
        fit(recipe, run, num_samples=0, num_evaluate=0, log_every=1, progress=False)
        losses[precision] = read_log(run / "log.csv")["negative_log_likelihood"]
    assert losses["bf16-mixed"] != losses["32-true"]
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0; expected positive"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; expected positive"),
        ({"ema_decay": 1.5}, "ema_decay is 1.5; expected from 0 to 1"),
        ({"schedule": "step"}, "schedule"),
        ({"precision": "8"}, "precision"),
        ({"accumulate": 257}, "at most the 256 rows of a batch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ToyFlowRecipe(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 1.5}, "accumulate must be an integer, got 1.5"),
        ({"warmup_steps": True}, "warmup_steps must be an integer, got True"),
        ({"max_grad_norm": "1"}, "max_grad_norm must be a number, got '1'"),
        ({"learning_rate": None}, "learning_rate must be a number, got None"),
    ],
)
def test_numbers_are_numbers(options, message):
    with pytest.raises(TypeError, match=message):
        ToyFlowRecipe(**options)


# Noise that is the same on every rank


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.randn(8, 3),
        torch.randn_like,
        lambda x: torch.empty(8).uniform_(),
        lambda x: torch.randint(5, (8,)),
        lambda x: torch.randn(8, 3, generator=torch.Generator()),
    ],
)
def test_rows_of_noise_that_all_ranks_share_are_refused(draw):
    x = torch.zeros(8, 3)
    message = r"expected noise by Batch\.normal"
    with pytest.raises(SameNoiseError, match=message), refuse_same_noise(8):
        draw(x)
    draw(x)


def test_rows_of_noise_that_all_parts_share_are_refused():
    module = Scalar(1.0)
    optimisation = descend(module, accumulate=2)
    with pytest.raises(SameNoiseError):
        optimisation.step(rows(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), lambda part: {
            "loss": optimisation.model(part.x + torch.randn(len(part))).mean()
        })  # fmt: skip


def test_noise_of_the_rows_keys_and_dropout_are_let_pass():
    batch = Batch(torch.zeros(2, 3), None, torch.arange(2))
    with refuse_same_noise(2):
        batch.normal()
        batch.uniform((4,))
        torch.rand(())
        torch.randn(5)
        nn.functional.dropout(batch.x)


# Experiments that draw and measure nothing


class Silent(Experiment):
    def __init__(self, recipe, fabric):
        self._toy = ToyExperiment(recipe, fabric)
        self.state = self._toy.state

    def step(self, batch):
        return self._toy.step(batch)


class SilentRecipe(ToyRecipe):
    """Fits, and shows nothing."""

    def build(self, fabric, dataset):
        return Silent(self, fabric)


def test_an_experiment_may_leave_out_samples_and_measures(tmp_path, monkeypatch, capsys):
    recipes = RecipeRegistry({"silent": f"{__name__}:SilentRecipe"})
    monkeypatch.setattr("gencore.recipes.RECIPES", recipes)
    run = tmp_path / "run"
    train(run, SilentRecipe(steps=2))
    assert not (run / "samples.png").exists()
    assert not (run / "metrics.json").exists()
    assert (run / "loss.png").exists()
    for command, message in (("sample", "makes no samples"), ("evaluate", "has no measures")):
        assert cli.main([command, str(run)]) == 2
        assert f"the recipe silent {message}" in capsys.readouterr().err


# Figures


def test_a_row_of_training_images_stands_above_the_samples(tmp_path):
    from PIL import Image

    from gencore.train.figures import save_image_grid

    samples, data = torch.zeros(9, 1, 4, 4), torch.full((5, 1, 4, 4), 255, dtype=torch.uint8)
    sizes = {}
    for name, above in (("without", None), ("with", data)):
        path = tmp_path / f"{name}.png"
        save_image_grid(samples, path, above=above, min_side=1)
        with Image.open(path) as image:
            sizes[name] = image.copy()
    assert sizes["with"].size[0] == sizes["without"].size[0]
    assert sizes["with"].size[1] == sizes["without"].size[1] + 4 + 2 + 1
    assert sizes["with"].getpixel((2, 2)) == 255
    assert sizes["with"].getpixel((2, 4 + 2 + 1 + 2)) == 0
