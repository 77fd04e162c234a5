"""The recipe on densities of the plane: training, resuming, measures and the command line."""

import json
import math

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from torch import nn

from gencore import cli
from gencore.data import load_density
from gencore.models import FlowEBM, ShortRunEBM, contrastive_loss
from gencore.nn import MLPEnergy
from gencore.recipes.ebm.densities import DensitiesRecipe
from gencore.recipes.plane_experiment import DensityBatches
from gencore.train import Diverged, RunFolder, fit
from gencore.train.figures import save_plane_panels
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("torchdiffeq")
Image = pytest.importorskip("PIL.Image")

SMALL = {"batch_size": 32, "hidden_widths": (16, 16), "grid_size": 24, "chain_steps": 4}


def train(run_dir, *, resume=False, **options):
    recipe = DensitiesRecipe(**{"steps": 3, **SMALL, **options})
    return fit(
        recipe, run_dir, accelerator="cpu", progress=False, resume=resume, log_every=1,
        num_samples=50, num_evaluate=100,
    )  # fmt: skip


def metrics(run_dir):
    return json.loads(RunFolder(run_dir).metrics.read_text())


@pytest.mark.parametrize(
    ("sampler", "objective"),
    [
        ("langevin", "ml"),
        ("langevin", "ml+gen"),
        ("ode", "ml"),
        ("ode", "ml+gen"),
        ("ode", "flow_mle"),
        ("euler", "ml"),
        ("euler", "ml+gen"),
        ("euler", "flow_mle"),
    ],
)
def test_every_combination_trains_and_is_measured(tmp_path, sampler, objective):
    experiment = train(tmp_path, sampler=sampler, objective=objective)
    assert experiment.sample(7).shape == (7, 2)
    measures = metrics(tmp_path)
    assert measures["negative_entropy"] == pytest.approx(-1.2376, abs=0.01)
    names = ["ebm"] if sampler == "langevin" else ["ebm", "flow"]
    for name in names:
        assert measures[f"kl/{name}"] > 0
        assert measures[f"log_likelihood/{name}"] < measures["log_likelihood/true"]
    assert ("kl/flow" in measures) == (sampler != "langevin")
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (len(names) * 352 + 704, 385)


def test_an_interrupted_run_is_the_straight_one(tmp_path):
    train(tmp_path / "straight", steps=6)
    train(tmp_path / "two", steps=3)
    torch.manual_seed(99)
    train(tmp_path / "two", steps=6, resume=True)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for name, value in states[0]["state"]["model"].items():
        assert torch.equal(value, states[1]["state"]["model"][name])
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "two")
    logs = [(tmp_path / run / "log.csv").read_text() for run in ("straight", "two")]
    assert logs[0] == logs[1]


def test_the_command_trains_samples_and_evaluates(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train densities --density swiss_roll --sampler ode --steps 2 --batch-size 16 "
    words += "--hidden-widths 8 8 --grid-size 16 --accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert RunFolder(out).read_config()["fields"]["hidden_widths"] == [8, 8]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 2)
    assert cli.main(["sample", str(out), "--accelerator", "cpu"]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert metrics(out)["num_samples"] == 30
    assert cli.main([*words.split(), str(out), "--resume", "--steps", "3"]) == 0
    captured = capsys.readouterr()
    assert "10000 samples of step 2" in captured.out
    assert "kl/flow" in captured.out
    assert cli.main(["train", "densities", "--sampler", "langevin", "--objective", "flow_mle"]) == 2
    assert "excludes the objective flow_mle" in capsys.readouterr().err


def test_the_measures_of_a_known_energy(tmp_path):
    """E = ½‖x‖²/s² on eight spots: both densities are normal, with variances s² and exp(−2T/s²)."""
    variance, time = 2.5, 0.2
    experiment = train(tmp_path, density="eight_gaussians", sampler="ode", steps=1, grid_size=120)

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.precision = nn.Parameter(torch.tensor(1 / variance))

        def forward(self, x):
            return 0.5 * self.precision * x.square().sum(1)

    experiment.optimisation.module = FlowEBM(Quadratic(), (2,), time=time)
    experiment.optimisation.module.energy.requires_grad_(False)
    measures = experiment.evaluate(4000)
    test = load_density("eight_gaussians").sample(4000, key=torch.tensor([0x7E57, 0]))
    # Every spot is centred at radius 2 with variance 0.04 on each axis: E‖x‖² = 4.08.
    for name, v in (("ebm", variance), ("flow", math.exp(-2 * time / variance))):
        normal = torch.distributions.Normal(0, math.sqrt(v))
        assert measures[f"log_likelihood/{name}"] == pytest.approx(
            normal.log_prob(test).sum(1).mean().item(), abs=0.01
        )
        cross_entropy = math.log(2 * math.pi * v) + 4.08 / (2 * v)
        expected = measures["negative_entropy"] + cross_entropy
        assert measures[f"kl/{name}"] == pytest.approx(expected, abs=0.01)
    assert measures["mass/flow"] == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ml+gen", "flow_mle"])
def test_two_processes_train_what_one_trains(tmp_path, objective):
    words = "train densities --sampler ode --steps 3 --batch-size 16 --hidden-widths 8 8"
    words = [*words.split(), f"--objective={objective}", *TRAIN_ALONE]
    rows = [read_log(run.log) for run in run_on_one_and_two(words, tmp_path)]
    for name, column in rows[0].items():
        assert rows[1][name] == pytest.approx(column, abs=1e-5)


def test_batches_are_fresh_and_shared_by_ranks():
    density = load_density("pinwheel")
    whole = DensityBatches(density, 8, seed=3)
    parts = [DensityBatches(density, 8, seed=3, rank=r, world_size=2) for r in range(2)]
    for step in (0, 5):
        assert torch.equal(torch.cat([part[step].x for part in parts]), whole[step].x)
    assert torch.equal(whole[5].x, whole[5].x)
    later, other = whole[6], DensityBatches(density, 8, seed=4)[5]
    assert not (whole[5].x == later.x).any()
    assert not (whole[5].x == other.x).any()
    assert parts[1][5].index.tolist() == [44, 45, 46, 47]
    assert parts[1][5].first == 4
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        DensityBatches(density, 8, seed=0, world_size=3)


def test_divergence_stops_the_run(tmp_path):
    with pytest.raises(Diverged, match="differ by more than"):
        train(tmp_path, max_gap=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": "spiral"}, "density is 'spiral'; expected one of swiss_roll, grid9"),
        ({"sampler": "Langevin"}, "sampler is 'Langevin'; expected one of langevin, ode, euler"),
        ({"objective": "mle"}, "objective is 'mle'; expected one of ml, ml[+]gen, flow_mle"),
        ({"grid_size": 2}, "grid_size is 2; expected at least 3"),
        ({"time": 0.0}, r"time is 0\.0; expected positive"),
        ({"hidden_widths": ()}, r"hidden_widths is \(\); expected a positive width"),
        ({"hidden_widths": (8, 0)}, r"hidden_widths is \(8, 0\)"),
        ({"sampler": "langevin", "objective": "flow_mle"}, "excludes the objective flow_mle"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DensitiesRecipe(**options).load_data()


class TestFlowEBM:
    @pytest.mark.parametrize("num_steps", [None, 3])
    def test_the_objectives_have_their_gradients(self, num_steps):
        """ml is contrastive; flow_mle is −log p of the flow; ml+gen adds the generator loss."""
        torch.manual_seed(0)
        energy = MLPEnergy(2, (8, 8)).double()
        parameters = list(energy.parameters())
        x, start = torch.randn(2, 6, 2, dtype=torch.float64)

        def gradient(objective):
            ebm = FlowEBM(energy, (2,), num_steps=num_steps, objective=objective)
            terms = ebm(x, start)
            return ebm, terms, torch.autograd.grad(terms.loss, parameters, allow_unused=True)

        ebm, terms, ml = gradient("ml")
        samples = ebm.flow.sample(start)
        expected = torch.autograd.grad(
            energy(x).mean() - energy(samples).mean(), parameters, allow_unused=True
        )
        for got, want in zip(ml, expected, strict=True):
            assert (got is None and want is None) or torch.equal(got, want)
        assert torch.equal(terms.samples, samples)

        ebm, terms, joint = gradient("ml+gen")
        moved = ebm.flow.sample(start, differentiable=True)
        (outer,) = torch.autograd.grad(energy(moved).sum(), moved, retain_graph=True)
        generator = torch.autograd.grad(moved, parameters, outer.detach() / 6, allow_unused=True)
        for both, first, second in zip(joint, ml, generator, strict=True):
            if both is not None:
                torch.testing.assert_close(both, first + (0 if second is None else second))

        ebm, terms, _ = gradient("flow_mle")
        torch.testing.assert_close(terms.loss.detach(), -ebm.flow.log_prob(x).mean())

    def test_contrastive_loss_is_that_of_the_short_run_model(self):
        torch.manual_seed(0)
        energy = MLPEnergy(2, (8,))
        ebm = ShortRunEBM(energy, (2,), num_steps=3, energy_penalty=0.5)
        x, start = torch.randn(2, 5, 2)
        terms = ebm(x, start)
        direct = contrastive_loss(energy, x, terms.samples, energy_penalty=0.5)
        torch.testing.assert_close(terms.loss, direct.loss)

    def test_sampling_in_parts(self):
        ebm, key = FlowEBM(MLPEnergy(2), (2,), num_steps=2), torch.tensor([1, 0])
        parts = [ebm.sample(3, key=key, first=first) for first in (0, 3)]
        torch.testing.assert_close(torch.cat(parts), ebm.sample(6, key=key))


def test_panels_of_densities_and_points(tmp_path):
    path = tmp_path / "panels.png"
    save_plane_panels({"a": torch.rand(9, 9), "b": torch.zeros(3, 2)}, 1.0, path)
    with Image.open(path) as picture:
        assert picture.size == (704, 385)
