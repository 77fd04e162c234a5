"""The recipe of flows on images: its likelihoods, training, figures and the command line."""

import json
import math
import os
from copy import deepcopy

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.flow_testing import randomize
from testing.ranks import run_on_one_and_two
from torch import nn

from gencore import cli
from gencore.data import load_images, to_uint8
from gencore.models import Flow
from gencore.nn import Transform, UniformDequantization
from gencore.ops import random_key
from gencore.recipes.flows.glow import GlowRecipe
from gencore.recipes.flows.glow_experiment import DequantizedBits, make_flow
from gencore.train import Batch, Diverged, RunFolder, fit
from gencore.train.logs import read_log

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")

SMALL = {"num_steps": 1, "hidden_channels": 4, "batch_size": 8}


class Affine(Transform):
    """z = exp(s)·x + t, of every pixel alike."""

    def __init__(self, log_scale, shift):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x, context=None):
        log_det = x[0].numel() * self.log_scale
        return x * self.log_scale.exp() + self.shift, log_det.expand(len(x))

    def inverse(self, z, context=None):
        log_det = -z[0].numel() * self.log_scale
        return (z - self.shift) * (-self.log_scale).exp(), log_det.expand(len(z))


class Uniform(Flow):
    """The density of [-½, ½]^D, 1 everywhere."""

    def __init__(self):
        super().__init__(Affine(0.0, 0.0), (3, 4, 4))

    def log_prob(self, x, context=None):
        assert x.min() >= -0.5
        assert x.max() < 0.5
        return torch.zeros(len(x))


def make(**options):
    recipe = GlowRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, dataset), dataset.images


def make_batch(experiment, num):
    dataset = experiment.dataset.subset(range(num))
    return Batch(dataset.images, dataset.labels, torch.arange(num))


def rows(images, start, end):
    return Batch(images[start:end], None, torch.arange(start, end))


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


class TestDequantizedBits:
    images = torch.randint(
        256, (500, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )

    def test_a_constant_density_takes_eight_bits(self):
        bits = DequantizedBits(Uniform(), UniformDequantization())
        torch.testing.assert_close(
            bits(self.images, torch.tensor([0, 0])), torch.full((500,), 8.0), rtol=0, atol=1e-5
        )

    def test_a_gaussian_takes_what_its_equation_says(self):
        """With z = (y − m)/s over y in levels: log₂ s + ½ log₂ 2π + ½ E z² log₂ e bits."""
        mean, std = 100.0, 60.0
        flow = Flow(Affine(math.log(256 / std), (128 - mean) / std), (3, 4, 4))
        model = DequantizedBits(flow, UniformDequantization())
        bits = model(self.images, torch.tensor([0, 0])).double()
        # E(x + u − m)² over the noise is (x + ½ − m)² + 1/12.
        squares = (self.images.double() + 0.5 - mean).square().flatten(1).mean(1) + 1 / 12
        expected = math.log2(std) + 0.5 * math.log2(2 * math.pi)
        expected = expected + 0.5 * squares / std**2 / math.log(2)
        # The noise's part of an image's bits: 48 pixels of (x + ½ − m)(u − ½)/s², about.
        error = 5 * math.sqrt(squares.mean() / 12 / 48 / 500) / std**2 / math.log(2)
        assert bits.mean().item() == pytest.approx(expected.mean().item(), abs=error)

    def test_parts_of_a_batch_have_the_noise_of_the_whole(self):
        bits = DequantizedBits(Flow(Affine(1.0, 0.1), (3, 4, 4)), UniformDequantization())
        key = random_key()
        parts = [bits(self.images[:200], key), bits(self.images[200:], key, 200)]
        assert torch.equal(torch.cat(parts), bits(self.images, key))
        assert not torch.equal(parts[1], bits(self.images[200:], key))


class TestExperiment:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"coupling": "additive", "optimizer": "adam"},
            {"coupling": "spline", "num_bins": 3},
            {"reversible": True, "num_levels": 1},
            {"model": "realnvp"},
            {"class_conditional": True},
            {"model": "realnvp", "class_conditional": True},
            {"model": "realnvp", "reversible": True},
            {"image_size": 16, "dequantization": "variational"},
            {"data": "photos", "image_size": 16},
            {"bits": 4},
            {"bits": 1, "dequantization": "variational"},
        ],
    )
    def test_a_step_trains_and_samples_are_images(self, options):
        experiment, images = make(**options)
        before = weights(experiment.optimisation.module)
        logs = experiment.step(make_batch(experiment, 8))
        assert logs.keys() == {"bits_per_dim", "grad_norm"}
        assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
        assert not torch.equal(weights(experiment.optimisation.module), before)
        samples = experiment.sample(5)
        assert samples.shape == (5, *images.shape[1:])
        assert 0 <= samples.min() < samples.max() <= 1

    def test_the_temperature_scales_the_latents(self):
        """At temperature 0 all samples are the image of the latent 0."""
        experiment, _ = make(temperature=0.0)
        zeros = torch.zeros(1, *experiment.flow.latent_shape)
        with torch.no_grad():
            centre = (experiment.flow.transform.inverse(zeros)[0] + 0.5).clamp(0, 1)
        torch.testing.assert_close(experiment.sample(3), centre.expand(3, -1, -1, -1))

    def test_samples_come_from_averaged_weights(self):
        experiment, images = make(ema_decay=0.75)
        experiment.step(rows(images, 0, 8))
        first = weights(experiment.optimisation.module)
        experiment.step(rows(images, 8, 16))
        # the decay is (1 + n) / (10 + n) after n = 1 updates, and 0.75 in the end
        average = 2 / 11 * first + 9 / 11 * weights(experiment.optimisation.module)
        torch.testing.assert_close(weights(experiment.optimisation.averaged), average)
        experiment.state["ema"].n_averaged.fill_(1000)
        experiment.step(rows(images, 0, 8))
        average = 0.75 * average + 0.25 * weights(experiment.optimisation.module)
        torch.testing.assert_close(weights(experiment.optimisation.averaged), average)

    def test_its_state_is_all_that_the_next_steps_depend_on(self):
        source, images = make(warmup_steps=4)
        source.step(rows(images, 0, 8))
        state = {name: deepcopy(part.state_dict()) for name, part in source.state.items()}
        target, _ = make(warmup_steps=4, seed=1)
        for name, part in target.state.items():
            part.load_state_dict(state[name])
        for experiment in (source, target):
            torch.manual_seed(2)
            experiment.step(rows(images, 8, 16))
            experiment.step(rows(images, 16, 24))
        one, other = (e.sample(4, torch.Generator().manual_seed(0)) for e in (source, target))
        assert torch.equal(one, other)

    def test_divergence_stops_before_the_weights_move(self):
        experiment, images = make()
        nn.init.constant_(next(experiment.optimisation.module.parameters()), math.inf)
        before = weights(experiment.optimisation.module)
        with pytest.raises(Diverged, match="bits_per_dim is"):
            experiment.step(rows(images, 0, 8))
        assert torch.equal(weights(experiment.optimisation.module), before)

    def test_measures_stand_beside_the_baselines(self):
        experiment, _ = make()
        measures = experiment.evaluate(100)
        assert measures.pop("num_samples") == 100
        assert experiment.evaluate(10**6)["num_samples"] == len(load_images("digits", split="test"))
        prefix = "bits_per_dim/"
        names = ("test", "train", "independent_gaussian", "full_gaussian")
        assert list(measures) == [prefix + name for name in names]
        # Started by ActNorm the flow is about a Gaussian: far from 8 bits' worth of nothing.
        assert measures[prefix + "test"] == pytest.approx(measures[prefix + "train"], abs=0.5)
        assert measures[prefix + "full_gaussian"] < measures[prefix + "independent_gaussian"]

    def test_measures_are_bits_of_the_levels(self):
        """The four bits that are missing are noise, to a density that knows nothing of them."""
        measures, wholes = (make(bits=bits)[0].evaluate(100) for bits in (4, 8))
        for name in ("test", "train", "independent_gaussian", "full_gaussian"):
            name = f"bits_per_dim/{name}"
            assert wholes[name] - measures[name] == pytest.approx(4, abs=0.6)

    def test_interpolations_end_at_held_out_images(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns, above=None: drawn.update({path.name: (images, columns)}),
        )
        experiment, _ = make()
        experiment.figures(tmp_path / "figures")
        images, columns = drawn["interpolation.png"]
        rows = images.view(-1, columns, *images.shape[1:])
        test = load_images("digits", split="test").images
        for ends in (rows[:, 0], rows[:, -1]):
            distance = (to_uint8(ends)[:, None].int() - test.int()).abs().amax((2, 3, 4))
            assert (distance.amin(1) <= 1).all()
        assert not torch.equal(rows[:, 0], rows[:, -1])
        images, columns = drawn["temperatures.png"]
        assert len(images) == 4 * columns


class TestClasses:
    def test_each_image_is_conditioned_on_its_own_class(self):
        experiment, _ = make(class_conditional=True)
        assert len(experiment.classes) == 10
        randomize(experiment.optimisation.module, 0.1)
        images, labels = experiment.dataset.images[:8], experiment.dataset.labels[:8]
        key, sizes = torch.tensor([1, 0]), []
        for label in (*range(10), labels):
            context = torch.zeros(8, 10)
            context[range(8), label] = 1
            sizes.append(experiment.optimisation.module(images, key, context=context))
        each = torch.stack(sizes[:10])
        assert (each.std(0) > 1e-4).all()
        torch.testing.assert_close(each[labels, range(8)], sizes[10])
        logs = experiment.step(Batch(images, labels, torch.arange(8)))
        assert logs["bits_per_dim"].isfinite()

    def test_the_batches_carry_the_labels_of_their_images(self):
        recipe = GlowRecipe(**SMALL, class_conditional=True)
        dataset = recipe.load_data()
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        batch = recipe.batches(fabric, dataset)[3]
        assert torch.equal(batch.x, dataset.images[batch.index])
        assert torch.equal(batch.label, dataset.labels[batch.index])

    def test_a_row_of_the_figure_is_a_class(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns, above=None: drawn.update({path.name: (images, columns)}),
        )
        experiment, _ = make(class_conditional=True)
        seen = []
        inverse = experiment.flow.transform.inverse

        def recorded(z, context):
            seen.append(context.argmax(1))
            return inverse(z, context)

        monkeypatch.setattr(experiment.flow.transform, "inverse", recorded)
        samples = experiment.sample(24)
        assert torch.cat(seen).bincount().tolist() == [3, 2, 3, 2, 2, 3, 2, 3, 2, 2]
        experiment.save_samples(samples, tmp_path / "samples.png")
        images, columns = drawn["samples.png"]
        assert columns == 3
        rows = images.view(10, 3, -1)
        assert torch.equal(rows[0], samples[:3].flatten(1))
        assert torch.equal(rows[1, :2], samples[3:5].flatten(1))
        assert (rows[1, 2] == 0.5).all()
        experiment.figures(tmp_path)
        assert drawn["temperatures.png"][1] == 10

    def test_what_needs_labels_says_so(self, tmp_path):
        np.save(tmp_path / "images.npy", np.zeros((10, 8, 8), np.uint8))
        data = str(tmp_path / "images.npy")
        with pytest.raises(ValueError, match=r"needs labels, which .*images\.npy"):
            make(class_conditional=True, data=data)
        experiment, _ = make(class_conditional=True)
        with pytest.raises(ValueError, match=r"an image has the label 10, which none of them has"):
            experiment.classes.context(torch.tensor([10]))
        with pytest.raises(ValueError, match=r"needs labels, which the test images of 'digits' la"):
            experiment.classes.context(None)

    @pytest.mark.parametrize("labels", [[1, 2, 3], [0, 2, 5], [1]])
    def test_only_classes_of_the_data_are_sampled(self, tmp_path, labels):
        numbers = np.array(labels)[np.arange(30) % len(labels)]
        pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "a.npz", images=pixels, labels=numbers)
        experiment, _ = make(class_conditional=True, data=str(tmp_path / "a.npz"))
        assert experiment.classes.sample_labels(6).unique().tolist() == labels
        context = experiment.classes.context(torch.tensor(labels))
        assert context.shape == (len(labels), labels[-1] + 1)
        assert context.argmax(1).tolist() == labels
        assert experiment.step(make_batch(experiment, 8))["bits_per_dim"].isfinite()

    @pytest.mark.parametrize("labels", [[-1, 0, 1], [-5, 0, 70], [5, 2**62, 2**63 - 1]])
    def test_classes_may_be_any_numbers(self, tmp_path, labels):
        """A flow of classes below 0 or far apart is that of the classes 0, 1, 2."""
        pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
        places = np.arange(30) % 3
        runs = []
        for name, numbers in (("plain", np.arange(3)), ("odd", np.array(labels))):
            np.savez(tmp_path / f"{name}.npz", images=pixels, labels=numbers[places])
            experiment, _ = make(class_conditional=True, data=str(tmp_path / f"{name}.npz"))
            experiment.prepare(1, 1)
            loss = experiment.step(make_batch(experiment, 8))["bits_per_dim"]
            samples = experiment.sample(6, torch.Generator().manual_seed(0))
            torch.manual_seed(0)
            runs.append((len(experiment.classes), loss.item(), experiment.evaluate(6), samples))
        assert runs[0][0] == 3
        assert runs[0][:3] == runs[1][:3]
        assert torch.equal(runs[0][3], runs[1][3])

    def test_a_class_of_the_test_part_alone_is_found_before_training(self, tmp_path):
        pixels = np.zeros((4, 8, 8), np.uint8)
        parts = {"x_train": pixels, "y_train": [0, 2, 2, 0], "x_test": pixels}
        for labels in ([0, 1, 2, 2], [0, 2, 3, 2]):
            np.savez(tmp_path / "a.npz", **parts, y_test=labels)
            experiment, _ = make(class_conditional=True, data=str(tmp_path / "a.npz"))
            with pytest.raises(ValueError, match=r"an image has the label [13], which none"):
                experiment.prepare(0, 1)
            experiment.prepare(0, 0)


def test_the_command_trains_samples_and_evaluates(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train glow --steps 2 --batch-size 8 --num-steps 1 --hidden-channels 4 --num-samples 4 "
    words += "--accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    figures = sorted(path.name for path in (out / "figures").iterdir())
    assert figures == ["interpolation.png", "temperatures.png"]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert json.loads(RunFolder(out).metrics.read_text())["num_samples"] == 30
    assert "bits_per_dim/full_gaussian" in capsys.readouterr().out
    (out / "figures" / "mine.png").touch()
    drawn = out / "figures" / "interpolation.png"
    os.utime(drawn, (0, 0))
    assert cli.main([*words.split(), str(out), "--overwrite"]) == 0
    assert (out / "figures" / "mine.png").exists()
    assert drawn.stat().st_mtime > 0
    words = "train glow --model realnvp --coupling additive"
    assert cli.main(words.split()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels is 0; expected positive"),
        ({"model": "Glow"}, "GlowRecipe: model is 'Glow'; expected one of glow, realnvp"),
        ({"dequantization": "none"}, "dequantization is 'none'; expected one of uniform, vari"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of adam, adamax"),
        ({"image_size": 0}, "image_size is 0; expected positive"),
        ({"learning_rate": math.nan}, "learning_rate is nan; expected finite"),
        ({"temperature": -0.1}, r"temperature is -0\.1; expected 0 or positive"),
        ({"ema_decay": 1.5}, r"ema_decay is 1\.5; expected from 0 to 1"),
        ({"model": "realnvp", "coupling": "additive"}, "coupling is 'additive', but"),
        ({"model": "realnvp", "coupling": "spline"}, "coupling is 'spline', but"),
        ({"num_bins": 0}, "num_bins is 0; expected positive"),
        ({"num_levels": 4}, "num_levels is 4, .* multiples of 16, but .* 8x8: choose fewer, or"),
        ({"image_size": 9}, "num_levels is 1, .* multiples of 2, but .* 9x9: set image_size"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("model", "size", "levels"),
    [
        ("glow", (28, 28), 2),  # MNIST
        ("glow", (8, 8), 2),
        ("glow", (32, 48), 3),
        ("glow", (14, 30), 1),
        ("realnvp", (28, 28), 3),
        ("realnvp", (30, 30), 2),
        ("realnvp", (27, 27), 1),
    ],
)
def test_the_levels_suit_the_images(model, size, levels):
    recipe = GlowRecipe(**SMALL, model=model)
    flow = make_flow(recipe, (1, *size))
    assert len(flow.transform.levels) == levels
    assert flow.log_prob(torch.rand(2, 1, *size) - 0.5).isfinite().all()


def test_a_conditional_run_resumes_where_it_stopped(tmp_path):
    words = "train glow --class-conditional --batch-size 8 --num-steps 1 --hidden-channels 4 "
    words += "--num-samples 0 --accelerator cpu --num-evaluate 20 --log-every 1"
    for folder, steps in (("whole", ["4"]), ("parts", ["2", "4"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            options = [*again, "--steps", count, "--out", str(tmp_path / folder)]
            assert cli.main([*words.split(), *options]) == 0
    logs, measures = zip(
        *((path / "log.csv", path / "metrics.json") for path in tmp_path.iterdir()), strict=True
    )
    for one, other in (logs, measures):
        assert one.read_text() == other.read_text()


@pytest.mark.slow
def test_training_beats_the_gaussians(tmp_path):
    recipe = GlowRecipe(steps=120, num_steps=4)
    fit(recipe, tmp_path, accelerator="cpu", progress=False, num_samples=0)
    measures = json.loads(RunFolder(tmp_path).metrics.read_text())
    assert measures["bits_per_dim/test"] < measures["bits_per_dim/full_gaussian"]


@pytest.mark.slow
@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_two_processes_train_what_one_trains(tmp_path, dequantization):
    words = "train glow --steps 3 --batch-size 16 --num-steps 2 --hidden-channels 8"
    words = [*words.split(), f"--dequantization={dequantization}", *TRAIN_ALONE]
    rows = [read_log(run.log) for run in run_on_one_and_two(words, tmp_path)]
    for name, column in rows[0].items():
        assert rows[1][name] == pytest.approx(column, rel=1e-4)
