"""The recipe of adaptive density estimation: the game, the five models, measures, the command."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from testing.runs import assert_same
from torch import nn

from gencore import cli
from gencore.models import ADE_MODELS, VADE
from gencore.nn import Compose
from gencore.recipes.hybrids.avade import AVADERecipe
from gencore.recipes.hybrids.avade_experiment import default_widths
from gencore.train import Diverged, RunFolder, fit, load_experiment
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")

SMALL = {"batch_size": 8, "latent_size": 2, "widths": (4, 8)}
CRITIC = {"discriminator_widths": (4, 8)}
FLOW = {"flow_channels": 4, "num_blocks": 1}


def small(model, **options):
    parts = ADE_MODELS[model]
    fields = {**SMALL, **(CRITIC if parts.adversarial else {}), **(FLOW if parts.features else {})}
    if parts.adversarial and parts.coverage:
        fields["coverage_steps"] = 0
    return AVADERecipe(model=model, **{**fields, **options})


def make(model="avade", **options):
    recipe = small(model, **options)
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, dataset), recipe.batches(fabric, dataset)


def states(experiment):
    return {
        name: deepcopy(part.state_dict())
        for name, part in experiment.state.items()
        if name.endswith("_model")
    }


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


class TestGame:
    @pytest.mark.parametrize("model", ADE_MODELS)
    def test_a_step_trains_what_the_model_has(self, model):
        parts = ADE_MODELS[model]
        experiment, batches = make(model)
        before = states(experiment)
        scalars = experiment.step(batches[0])
        expected = {"loss"} | ({"bits_per_dim"} if parts.coverage else set())
        if parts.adversarial:
            of_critic = {"discriminator_loss", "real_score", "fake_score", "penalty"}
            expected |= {"quality", *of_critic}
        assert set(scalars) == expected
        assert all(value.dim() == 0 and value.isfinite() for value in scalars.values())
        after = states(experiment)
        assert ("discriminator_model" in after) == parts.adversarial
        names = {
            name.partition(".")[0]
            for name in moved(before["generator_model"], after["generator_model"])
        }
        assert names == {"decoder"} | ({"encoder", "log_std"} if parts.coverage else set()) | (
            {"features"} if parts.features else set()
        )
        samples = experiment.sample(3)
        assert samples.shape == (3, 1, 8, 8)
        assert 0 <= samples.min() < samples.max() <= 1

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_each_player_moves_alone(self, accumulate, monkeypatch):
        experiment, batches = make(accumulate=accumulate, discriminator_steps=2)
        seen = []
        for name in ("discriminator", "generator"):
            player = getattr(experiment, name)

            def watched(*arguments, name=name, step=player.step):
                before = states(experiment)
                values = step(*arguments)
                after = states(experiment)
                seen.append((name, {key for key in after if moved(before[key], after[key])}))
                return values

            monkeypatch.setattr(player, "step", watched)
        experiment.step(batches[0])
        critic, model = ({f"{name}_model"} for name in ("discriminator", "generator"))
        assert seen == [
            ("discriminator", critic), ("discriminator", critic), ("generator", model),
        ]  # fmt: skip

    def test_the_loss_is_the_sum_of_both_criteria_in_nats(self):
        experiment, batches = make(adversarial_weight=3.0)
        scalars = experiment.step(batches[0])
        # Bits of the levels, of which the noise takes 8, are those of the density over [0, 1).
        expected = (scalars["bits_per_dim"] - 8) * 64 * math.log(2) + 3 * scalars["quality"]
        torch.testing.assert_close(scalars["loss"], expected, rtol=1e-4, atol=0)

    def test_the_likelihood_alone_comes_first(self):
        experiment, batches = make(coverage_steps=2)
        before = states(experiment)["discriminator_model"]
        for number in range(3):
            assert ("quality" in experiment.step(batches[number])) == (number == 2)
            after = states(experiment)["discriminator_model"]
            assert bool(moved(before, after)) == (number == 2)

    def test_a_run_of_likelihood_alone_warns(self):
        """The defaults' likelihood takes 400 steps; a GAN has none."""
        recipe = {"steps": 400, "coverage_steps": 400}
        experiment, batches = make(**recipe)
        with pytest.warns(
            UserWarning, match="the discriminator is not trained: the run has 400 st"
        ):
            experiment.step(batches[0])
        experiment.step(batches[1])
        experiment, batches = make("gan", steps=1)
        assert "quality" in experiment.step(batches[0])

    def test_the_discriminator_s_rates_go_by_its_own_steps(self):
        """Of 7 steps the last 4 have two of the discriminator's each, which warms up in 2·2 and has
        come down to 0 after 8; the generator's rates go by all steps."""
        experiment, batches = make(
            steps=7, coverage_steps=3, warmup_steps=2, discriminator_steps=2, schedule="linear"
        )
        assert experiment.recipe.learning_rate == experiment.recipe.discriminator_learning_rate
        players = experiment.discriminator, experiment.generator
        rates = []
        for number in range(7):
            rates.append([p.optimizer.param_groups[0]["lr"] / 0.002 for p in players])
            experiment.step(batches[number])
        rates.append([p.optimizer.param_groups[0]["lr"] / 0.002 for p in players])
        of_discriminator, of_generator = zip(*rates, strict=True)
        assert of_discriminator == pytest.approx([0.25] * 4 + [0.625, 1, 0.5, 0])
        assert of_generator == pytest.approx([0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2, 0])

    @pytest.mark.parametrize("model", ["avade", "gan"])
    def test_parts_of_a_batch_make_the_step_of_the_whole(self, model):
        logs = []
        for accumulate in (1, 3):
            experiment, batches = make(model, accumulate=accumulate)
            logs.append([experiment.step(batches[number]) for number in range(2)])
        for one, other in zip(*logs, strict=True):
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)

    def test_without_a_flow_avade_is_avgde(self):
        """The same weights at first, batches and noise, and so the same losses bit for bit."""
        logs = []
        for model in ("avade", "avgde"):
            experiment, batches = make("avgde")
            if model == "avade":
                experiment.generator.module.features = nn.ModuleList([Compose()])[0]
            logs.append(experiment.step(batches[0]))
        for name in logs[0]:
            assert torch.equal(logs[0][name], logs[1][name])


class TestPresets:
    def test_the_settings_of_the_appendix(self):
        for model in ADE_MODELS:
            recipe = AVADERecipe.preset(f"lucas2020-{model}-cifar10")
            assert (recipe.model, recipe.batch_size, recipe.learning_rate) == (model, 64, 0.002)
            if recipe.parts.adversarial:
                assert (recipe.gradient_penalty, recipe.discriminator_steps) == (100, 1)
                assert recipe.discriminator_learning_rate == 0.002
            if recipe.parts.adversarial and recipe.parts.coverage:
                fields = ("adversarial_weight", "train_features", "coverage_steps")
                assert tuple(getattr(recipe, field) for field in fields) == (100, False, 0)
            if recipe.parts.features:
                fields = ("num_scales", "num_couplings", "num_blocks", "batch_norm")
                assert tuple(getattr(recipe, field) for field in fields) == (1, 3, 2, True)

    @pytest.mark.parametrize("name", AVADERecipe.presets)
    def test_each_trains_at_small_size(self, name):
        self.train(name, 2)

    @pytest.mark.long
    @pytest.mark.parametrize("name", AVADERecipe.presets)
    def test_each_trains_two_hundred_steps(self, name):
        self.train(name, 200)

    def train(self, name, steps):
        """The settings of the preset on digits, with narrower networks."""
        recipe = AVADERecipe.preset(name)
        parts = recipe.parts
        narrow = {"data": "digits", "image_size": None, "batch_size": 16, "widths": (4, 8)}
        narrow |= CRITIC if parts.adversarial else {}
        narrow |= {"flow_channels": 4} if parts.features else {}
        if parts.adversarial and parts.coverage:
            narrow["coverage_steps"] = min(recipe.coverage_steps, steps // 2)
        recipe = AVADERecipe.preset(name, **narrow, steps=steps)
        torch.manual_seed(0)
        dataset = recipe.load_data()
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        experiment, batches = recipe.build(fabric, dataset), recipe.batches(fabric, dataset)
        for number in range(steps):
            scalars = experiment.step(batches[number])
            assert all(value.isfinite() for value in scalars.values()), number
        assert experiment.sample(4).isfinite().all()


class TestLikelihood:
    @pytest.mark.parametrize("model", ["vade", "gan"])
    def test_a_uniform_density_takes_eight_bits(self, model, monkeypatch):
        experiment, _ = make(model, encoder_steps=1)
        monkeypatch.setattr(
            VADE, "log_prob_bound", lambda self, x, num, **keys: torch.zeros(len(x))
        )
        bits = experiment._bits(20)
        assert bits["test"] == bits["train"] == pytest.approx(8, abs=1e-5)

    def test_a_gaussian_takes_what_its_equation_says(self):
        """A decoder that is constant: log₂ of the Gaussian about it, over y in [0, 1)."""
        experiment, _ = make("vae", importance_samples=3)
        model = experiment.model
        with torch.no_grad():
            for weight in (*model.decoder.parameters(), *model.encoder.last.parameters()):
                weight.zero_()
            model.log_std.fill_(math.log(0.3))
        images = experiment.test.images
        squares = (images.double() / 256 + 1 / 512 - 0.5).square().mean() + 1 / 12 / 256**2
        nats = 0.5 * squares / 0.3**2 + 0.5 * math.log(2 * math.pi) + math.log(0.3)
        expected = 8 + nats.item() / math.log(2)
        # The noise of an element adds about 2·x·u/(2·0.3²) nats, |x| ≤ ½ and u within 1/512.
        error = 5 * 0.5 / 0.09 / 256 / 12**0.5 / math.sqrt(images.numel()) / math.log(2)
        assert experiment._mean_bits(model, images) == pytest.approx(expected, abs=error)

    def test_measuring_a_gan_leaves_it_as_it_is(self):
        experiment, _ = make("gan", encoder_steps=3, importance_samples=2)
        before = states(experiment)["generator_model"]
        measures = experiment.evaluate(20)
        assert not moved(before, states(experiment)["generator_model"])
        assert all(math.isfinite(value) for value in measures.values())
        assert {"bits_per_dim/test", "frechet_pixels/samples", "frechet_classifier/train"} <= set(
            measures
        )


class TestLatentGenerator:
    def test_it_stays_in_evaluation_mode(self):
        experiment, batches = make(batch_norm=True)
        experiment.step(batches[0])
        generator, shape = experiment.latent_generator()
        z = torch.randn(5, *shape)
        images = generator(z)
        assert torch.equal(nn.Sequential(generator).train()(z), images)

    @pytest.mark.parametrize("model", ADE_MODELS)
    def test_it_is_frozen_and_makes_the_model_s_samples(self, model):
        experiment, batches = make(model)
        experiment.step(batches[0])
        generator, shape = experiment.latent_generator()
        assert shape == (2,)
        assert not any(weight.requires_grad for weight in generator.parameters())
        z = torch.randn(5, *shape, requires_grad=True)
        images = generator(z)
        expected = (experiment.model.decode(z) + 0.5).clamp(0, 1)
        assert torch.equal(images, expected)
        images.sum().backward()
        assert z.grad.abs().sum() > 0
        experiment.step(batches[1])
        assert torch.equal(generator(z), images)


WORDS = (
    "train avade --batch-size 8 --latent-size 2 --widths 4 8 --discriminator-widths 4 8 "
    "--flow-channels 4 --num-blocks 1 --ema-decay 0.9 --warmup-steps 3 --coverage-steps 1 "
    "--importance-samples 2 --log-every 1 --num-evaluate 20 --num-samples 4 --accelerator cpu"
)


@pytest.mark.usefixtures("quick_classifier")
def test_the_command_trains_resumes_and_samples(tmp_path):
    """A run in two parts is bit for bit the run in one."""
    for folder, steps in (("whole", ["4"]), ("parts", ["2", "4"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            if count == "2":
                again = ["--num-evaluate", "0", "--num-samples", "0"]
            out = str(tmp_path / folder)
            assert cli.main([*WORDS.split(), *again, "--steps", count, "--out", out]) == 0
    whole, parts = (RunFolder(tmp_path / name) for name in ("whole", "parts"))
    assert_same(*(read_state(run.checkpoint)["state"] for run in (whole, parts)))
    assert_same(read_log(whole.log), read_log(parts.log))
    assert json.loads(whole.metrics.read_text()) == json.loads(parts.metrics.read_text())
    assert (tmp_path / "whole" / "figures" / "reconstructions.png").exists()
    out = tmp_path / "x.npy"
    assert cli.main(["sample", str(tmp_path / "whole"), "--num", "3", "--out", str(out)]) == 0
    assert np.load(out).shape == (3, 1, 8, 8)
    assert cli.main(["evaluate", str(tmp_path / "whole"), "--num", "30"]) == 0
    assert json.loads(whole.metrics.read_text())["num_samples"] == 30


def test_a_run_is_loaded_without_its_training_images(tmp_path):
    trained = fit(small("avade", steps=1), tmp_path, accelerator="cpu", progress=False,
                  num_evaluate=0)  # fmt: skip
    loaded, step, _ = load_experiment(tmp_path, trained.recipe, accelerator="cpu", with_data=False)
    assert step == 1
    one, other = (e.sample(4, torch.Generator().manual_seed(0)) for e in (trained, loaded))
    assert torch.equal(one, other)


def test_samples_may_have_the_decoder_s_noise():
    samples = [
        make("vae", noisy_samples=noisy)[0].sample(4, torch.Generator().manual_seed(0))
        for noisy in (False, True)
    ]
    assert samples[1].sub(samples[0]).std() > 0.05
    gan = [
        make("gan", noisy_samples=noisy)[0].sample(4, torch.Generator().manual_seed(0))
        for noisy in (False, True)
    ]
    assert torch.equal(*gan)


def test_divergence_stops_before_the_weights_move():
    experiment, batches = make()
    nn.init.constant_(next(experiment.discriminator.module.parameters()), math.inf)
    with pytest.raises(Diverged, match="discriminator_loss is nan"):
        experiment.step(batches[0])


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((1, 8, 8), (32, 64)),
        ((1, 28, 28), (32, 64, 128)),
        ((3, 16, 16), (32, 64, 128)),
        ((3, 32, 32), (32, 64, 128, 256)),
        ((3, 7, 7), (32,)),
    ],
)
def test_the_widths_suit_the_images(shape, widths):
    assert default_widths(shape) == widths


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "began"}, "model is 'began'; expected one of gan, vae, vade, avgde, avade"),
        ({"latent_size": 0}, "latent_size is 0; expected positive"),
        ({"widths": (4, 0)}, r"widths is \(4, 0\); expected positive numbers"),
        ({"adversarial_weight": -1.0}, r"adversarial_weight is -1\.0; expected 0 or positive"),
        ({"model": "vae", "num_scales": 2}, "num_scales is 2, but it has an effect with model va"),
        ({"model": "gan", "sample_noise": True}, "has an effect with model avgde or avade alone"),
        ({"batch_norm": True, "accumulate": 2}, "accumulate is 2, but batch_norm normalises"),
        ({"widths": (4, 4, 4, 4, 4)}, "8x8; expected multiples of 16 for 5 widths"),
        ({"num_scales": 5}, "8x8; expected multiples of 16 for 4 levels"),
    ],
)
def test_wrong_options_are_named(options, message):
    def build():
        recipe = AVADERecipe(**{"batch_size": 8, **options})
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        return recipe.build(fabric, recipe.load_data())

    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gan", "avade"])
def test_two_processes_train_what_one_trains(tmp_path, model):
    words = "train avade --steps 3 --batch-size 8 --latent-size 2 --widths 4 8 "
    words += f"--discriminator-widths 4 8 --model {model}"
    words += " --coverage-steps 0" if model == "avade" else ""
    words = [*words.split(), *TRAIN_ALONE]
    rows = [read_log(run.log) for run in run_on_one_and_two(words, tmp_path)]
    for name, column in rows[0].items():
        assert rows[1][name] == pytest.approx(column, rel=1e-3, abs=1e-4)
