"""The recipe of flows on the plane: training, resuming, measures and the command line."""

import json
import math

import pytest
import torch
from torch import nn

from gencore import cli
from gencore.models import Flow
from gencore.nn import LULinear, Transform
from gencore.recipes.flows import toyflow_experiment
from gencore.recipes.flows.toyflow import ToyFlowRecipe
from gencore.recipes.flows.toyflow_experiment import FLOWS
from gencore.train import Diverged, RunFolder, fit
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

Image = pytest.importorskip("PIL.Image")

SMALL = {"steps": 3, "batch_size": 32, "num_layers": 2, "hidden_widths": (8,), "grid_size": 24}


def train(run_dir, *, resume=False, **options):
    return fit(
        ToyFlowRecipe(**{**SMALL, **options}), run_dir, accelerator="cpu", progress=False,
        resume=resume, log_every=1, num_samples=50, num_evaluate=200,
    )  # fmt: skip


def metrics(run_dir):
    return json.loads(RunFolder(run_dir).metrics.read_text())


class Scaling(Transform):
    """z = exp(s)·x with one s."""

    def __init__(self, log_scale=0.7):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(log_scale))

    def forward(self, x, context=None):
        return x * self.log_scale.exp(), 2 * self.log_scale.expand(len(x))

    def inverse(self, z, context=None):
        return z * (-self.log_scale).exp(), -2 * self.log_scale.expand(len(z))


def test_affine_flows_have_the_permutations_of_their_papers():
    """By which the published numbers were made, whatever the defaults of the models."""
    mixed = {
        name for name, make in FLOWS.items()
        if any(isinstance(layer, LULinear) for layer in make(4, (8,)).modules())
    }  # fmt: skip
    assert mixed == {"spline", "autoregressive_spline"}


@pytest.fixture
def scaling(monkeypatch):
    """In the place of every flow a Gaussian with one standard deviation."""
    for name in FLOWS:
        monkeypatch.setitem(
            toyflow_experiment.FLOWS, name, lambda layers, widths: Flow(Scaling(), [2])
        )


@pytest.mark.parametrize("model", FLOWS)
def test_every_flow_trains_samples_and_is_measured(tmp_path, model):
    if model == "ffjord":
        pytest.importorskip("torchdiffeq")
    experiment = train(tmp_path, model=model)
    assert experiment.sample(7).shape == (7, 2)
    measures = metrics(tmp_path)
    assert measures["log_likelihood/flow"] < measures["log_likelihood/true"]
    assert measures["kl/flow"] > 0
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (3 * 352, 385)


def test_the_gaussian_of_maximum_likelihood(tmp_path, scaling):
    """The best isotropic Gaussian has half the mean square as its variance."""
    experiment = train(
        tmp_path, density="eight_gaussians", steps=400, batch_size=256, learning_rate=0.05,
        warmup_steps=1, grid_size=100,
    )  # fmt: skip
    variance = (4 + 2 * 0.2**2) / 2  # spots of variance 0.2² on a circle of radius 2
    measures = metrics(tmp_path)
    expected = -math.log(2 * math.pi * variance) - 1
    assert experiment.flow.transform.log_scale.item() == pytest.approx(
        -0.5 * math.log(variance), abs=0.05
    )
    assert measures["log_likelihood/flow"] == pytest.approx(expected, abs=0.02)
    assert measures["kl/flow"] == pytest.approx(measures["negative_entropy"] - expected, abs=5e-3)
    assert measures["mass/flow"] == pytest.approx(1, abs=0.01)


def test_an_interrupted_run_is_the_straight_one(tmp_path):
    options = {"model": "nice", "warmup_steps": 4}
    train(tmp_path / "straight", steps=6, **options)
    train(tmp_path / "two", **options)
    torch.manual_seed(99)
    train(tmp_path / "two", steps=6, resume=True, **options)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for name, value in states[0]["state"]["model"].items():
        assert torch.equal(value, states[1]["state"]["model"][name])
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "two")
    assert read_log(tmp_path / "straight" / "log.csv") == read_log(tmp_path / "two" / "log.csv")


def test_the_command_trains_and_samples(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train toyflow --density pinwheel --model nice --steps 2 --batch-size 16 --num-layers 2"
    words += " --hidden-widths 8 8 --grid-size 16 --accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert RunFolder(out).read_config()["fields"]["hidden_widths"] == [8, 8]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert "mass/flow" in capsys.readouterr().out


def test_divergence_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(toyflow_experiment.FLOWS, "nice", lambda *_: Flow(Scaling(100.0), [2]))
    with pytest.raises(Diverged, match="step 1: negative_log_likelihood is inf"):
        train(tmp_path, model="nice")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; expected positive"),
        ({"hidden_widths": ()}, r"hidden_widths is \(\); expected a positive width"),
        ({"learning_rate": math.nan}, "learning_rate is nan; expected finite"),
        ({"grid_size": 0}, "ToyFlowRecipe: grid_size is 0"),
        ({"model": "glow"}, "model is 'glow'; expected one of nice, realnvp, maf"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, **options)
