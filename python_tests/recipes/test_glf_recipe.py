"""The recipe of generative latent flow: its ten models, stages, resuming, measures, commands."""

import json
from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from testing.runs import assert_same, train
from torch import nn

from gencore import cli
from gencore.models import LatentEBM
from gencore.nn import LULinear, MLPEnergy
from gencore.recipes.latent.glf import GLFRecipe, LatentModelName
from gencore.recipes.latent.latent_models import make_flow
from gencore.recipes.loaded_run import load_run
from gencore.train import Batch, Diverged

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.usefixtures("quick_classifier")
MODELS = get_args(LatentModelName)
SIZES = {"batch_size": 8, "steps": 4, "latent_size": 3, "channels": 2, "hidden_features": 8}
OWN = {
    "wae-gan": {"adversary_width": 8},
    "two-stage-vae": {"first_steps": 2, "second_width": 8, "second_layers": 1},
    "rae-gmm": {"components": 2},
    **{
        name: {"flow_blocks": 1, "flow_width": 4}
        for name in ("glf", "regularised", "perceptual", "vae-flow-prior")
    },
}


def small(model, **options):
    return GLFRecipe(**{**SIZES, **OWN.get(model, {}), "model": model, **options})


def make(model, **options):
    recipe = small(model, **options)
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def step(experiment, number):
    start = 8 * number
    images = experiment.dataset.images[start : start + 8]
    return experiment.step(Batch(images, None, torch.arange(start, start + 8)))


def state_of(experiment, prefix=""):
    return {
        name: deepcopy(part.state_dict())
        for name, part in experiment.state.items()
        if name.startswith(prefix)
    }


class TestTraining:
    @pytest.mark.parametrize(
        ("model", "terms"),
        [
            ("glf", {"loss", "reconstruction", "nll"}),
            ("regularised", {"loss", "reconstruction", "nll"}),
            ("perceptual", {"loss", "reconstruction", "nll"}),
            ("vae", {"loss", "reconstruction", "kl"}),
            ("vae-flow-prior", {"loss", "reconstruction", "kl"}),
            ("wae-gan", {"loss", "reconstruction", "adversarial", "adversary_loss"}),
            ("wae-mmd", {"loss", "reconstruction", "divergence"}),
            ("rae-gmm", {"loss", "reconstruction", "squared_norm"}),
            ("glo", {"reconstruction"}),
        ],
    )
    def test_every_step_moves_all_trained_weights(self, model, terms):
        experiment = make(model, steps=1)
        before = state_of(experiment)
        assert set(step(experiment, 0)) == terms
        for name, part in experiment.state.items():
            if isinstance(part, nn.Module):
                for key, weight in part.named_parameters():
                    moved = not torch.equal(weight, before[name][key])
                    assert moved == weight.requires_grad, (name, key)
        samples = experiment.sample(3)
        assert samples.shape == (3, 1, 8, 8)
        assert 0 <= samples.min() < samples.max() <= 1

    @pytest.mark.parametrize(
        ("model", "options", "terms"),
        [
            ("glf", {"stages": 2, "first_steps": 2}, ({"reconstruction"}, {"nll"})),
            (
                "two-stage-vae",
                {"likelihood": "bernoulli"},
                (
                    {"loss", "reconstruction", "kl"},
                    {"second_loss", "second_reconstruction", "second_kl"},
                ),
            ),
        ],
    )
    def test_of_two_stages_the_second_leaves_the_first_as_it_is(self, model, options, terms):
        experiment = make(model, **options)
        for stage, name in enumerate(("first", "second")):
            other = ("second", "first")[stage]
            before = state_of(experiment)
            for number in range(2):
                assert set(step(experiment, 2 * stage + number)) == terms[stage]
            assert_same(state_of(experiment, other), {
                key: value for key, value in before.items() if key.startswith(other)
            })  # fmt: skip
            with pytest.raises(AssertionError):
                assert_same(state_of(experiment, f"{name}_model"), {
                    f"{name}_model": before[f"{name}_model"]
                })  # fmt: skip

    @pytest.mark.parametrize(
        ("model", "options", "message"),
        [
            (
                "glf",
                {"stages": 2},
                "the flow is not trained: the run has 4 steps, and the first 750",
            ),
            ("two-stage-vae", {"first_steps": 4}, "the second VAE is not trained: the run has 4"),
        ],
    )
    def test_a_run_of_the_first_stage_alone_warns(self, model, options, message):
        experiment = make(model, **options)
        with pytest.warns(UserWarning, match=message):
            step(experiment, 0)
        step(experiment, 1)

    def test_the_flow_alone_decays(self):
        experiment = make("vae-flow-prior", flow_weight_decay=0.1)
        decays = {
            weight: group["weight_decay"]
            for group in experiment.state["optimizer"].param_groups
            for weight in group["params"]
        }
        flow = set(experiment.state["model"].prior.parameters())
        for weight in experiment.state["model"].parameters():
            if weight.requires_grad:
                assert decays[weight] == (0.1 if weight in flow else 0)

    def test_the_learning_rate_has_the_factors_of_its_steps(self):
        """Of a second stage those of the whole run's steps."""
        experiment = make("two-stage-vae", decay_steps=(1, 2, 3), decay_factors=(0.5, 1.0, 0.1))
        rates = []
        for number in range(4):
            name = "first" if number < 2 else "second"
            rates.append(experiment.state[f"{name}_optimizer"].param_groups[0]["lr"])
            step(experiment, number)
        assert rates == pytest.approx([1e-3, 5e-4, 1e-3, 1e-4])

    def test_the_mixture_is_fitted_after_the_last_step(self):
        experiment = make("rae-gmm", steps=2)
        step(experiment, 0)
        with pytest.raises(ValueError, match="no samples before the mixture is fitted"):
            experiment.sample(3)
        step(experiment, 1)
        mixture = experiment.model.mixture
        images = experiment.dataset.images / 255
        with torch.no_grad():
            codes = experiment.model.codes(images)
        expected = mixture.log_weights.exp() @ mixture.means
        torch.testing.assert_close(expected, codes.mean(0), rtol=1e-3, atol=1e-3)
        step(experiment, 2)  # as a run does that goes on
        assert not experiment.model.mixture.is_fitted

    def test_kernels_weigh_codes_against_the_prior(self):
        experiment = make("wae-mmd", divergence_weight=7.0, prior_std=2.0)
        terms = step(experiment, 0)
        expected = terms["reconstruction"] + 7 * terms["divergence"]
        torch.testing.assert_close(terms["loss"], expected)
        assert terms["divergence"] > 0.1  # of codes near 0 from draws of N(0, 4I)
        noise = torch.randn(5, 3)
        model = experiment.model
        torch.testing.assert_close(model.decode_noise(noise), model.decode(2 * noise))

    def test_the_prior_is_drawn_anew_on_every_process(self):
        terms = []
        for first in (0, 8):
            experiment = make("wae-mmd")
            images = experiment.dataset.images[:8]
            terms.append(experiment.step(Batch(images, None, torch.arange(8), first)))
        assert terms[0]["reconstruction"] == terms[1]["reconstruction"]
        assert terms[0]["divergence"] != terms[1]["divergence"]

    def test_codes_of_the_batch_move_as_the_learning_rate_falls(self):
        experiment = make(
            "glo", decay_steps=(1,), decay_factors=(0.0,), inner_steps=2, latent_learning_rate=0.05
        )
        latents = experiment.state["latents"].latents
        starts = latents.values.clone()
        step(experiment, 0)
        after = latents.values.clone()
        moved = (after != starts).any(1)
        assert moved[:8].all()
        assert not moved[8:].any()
        assert latents.num_steps[:9].tolist() == [2] * 8 + [0]
        assert (after.norm(dim=1) <= 1 + 1e-6).all()
        step(experiment, 1)
        torch.testing.assert_close(latents.values, after)

    def test_divergence_stops_before_the_weights_move(self):
        experiment = make("glf")
        weight = next(experiment.state["model"].parameters())
        nn.init.constant_(weight, float("nan"))
        before = state_of(experiment, "optimizer")
        with pytest.raises(Diverged, match="loss is nan"):
            step(experiment, 0)
        assert_same(state_of(experiment, "optimizer"), before)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_is_the_same(tmp_path, model):
    """With averaged weights, and interrupted in either stage where there are two."""
    options = {"num_samples": 0, "num_evaluate": 0}
    whole = train(tmp_path / "whole", small(model, ema_decay=0.9), **options)
    for first in (1, 3):
        folder = tmp_path / f"parts{first}"
        is_short = model == "two-stage-vae" and first == 1
        warned = pytest.warns(UserWarning, match="second VAE") if is_short else nullcontext()
        with warned:
            train(folder, small(model, ema_decay=0.9, steps=first), **options)
        resumed = train(folder, small(model, ema_decay=0.9), resume=True, **options)
        assert_same(state_of(resumed), state_of(whole))
    samples = [e.sample(3, torch.Generator().manual_seed(0)) for e in (resumed, whole)]
    assert torch.equal(*samples)


class TestRuns:
    def test_the_noise_of_a_mixture_is_no_latent_that_a_model_can_correct(self, tmp_path):
        train(tmp_path / "run", small("rae-gmm"), num_samples=0, num_evaluate=0)
        _, experiment, _, _ = load_run(tmp_path / "run", "cpu", with_data=False)
        with pytest.raises(ValueError, match="its noise chooses a component"):
            experiment.latent_generator()

    @pytest.mark.parametrize("model", ["vae", "perceptual", "two-stage-vae", "wae-mmd", "glo"])
    def test_the_generator_of_a_folder_is_frozen_and_gives_its_samples(self, tmp_path, model):
        """What another recipe builds on, without the data."""
        trained = train(
            tmp_path / "run", small(model, ema_decay=0.5), num_samples=0, num_evaluate=0
        )
        _, experiment, _, _ = load_run(tmp_path / "run", "cpu", with_data=False)
        generator, shape = experiment.latent_generator()
        u = torch.randn(5, *shape)
        images = generator(u)
        assert images.shape == (5, 1, 8, 8)
        assert 0 <= images.min() <= images.max() <= 1
        torch.testing.assert_close(images, trained.model.decode_noise(u))
        assert not any(weight.requires_grad for weight in generator.parameters())
        ebm = LatentEBM(
            generator, nn.Sequential(nn.Flatten(), MLPEnergy(64, (8,))), shape, num_steps=1
        ).train()
        ebm(torch.rand(4, 1, 8, 8), ebm.start(4)).loss.backward()
        torch.testing.assert_close(generator(u), images)  # batch statistics do not move

    @pytest.mark.parametrize("model", ["glf", "two-stage-vae", "wae-mmd", "glo"])
    def test_the_command_trains_samples_and_evaluates(self, tmp_path, model):
        out = tmp_path / "run"
        options = {"model": model, "num_samples": 4, "num_evaluate": 20, "bound_samples": 5}
        options = {**SIZES, **OWN.get(model, {}), **options}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        assert cli.main(["train", "glf", "--accelerator", "cpu", "--out", str(out), *words]) == 0
        measures = json.loads((out / "metrics.json").read_text())
        for kind in ("pixels", "classifier"):
            for name in ("samples", "independent_pixels", "train"):
                assert measures[f"frechet_{kind}/{name}"] > 0
        assert 0 < measures["squared_error/test"] < 1
        assert ("bound_1/test" in measures) == (model == "two-stage-vae")
        if model == "two-stage-vae":
            assert measures["bound_1/test"] < measures["bound_5/test"] < 0
        for name in ("interpolation.png", "reconstructions.png"):
            assert (out / "figures" / name).is_file()
        assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
        assert cli.main(["evaluate", str(out), "--num", "30"]) == 0


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"latent_size": 0}, "latent_size is 0; expected positive"),
            ({"accumulate": 2}, "accumulate is 2, but the networks normalise over a batch"),
            ({"batch_size": 1}, "batch_size is 1; expected at least 2"),
            ({"model": "gan"}, "model is 'gan'; expected one of glf, regularised"),
            ({"recon_weight": 2.0}, "recon_weight is 2.0, but it has an effect with model regul"),
            ({"first_steps": 2}, "first_steps is 2, but it has an effect with stages 2 or model"),
            ({"prior_std": 2.0}, "prior_std is 2.0, but it has an effect with model wae-gan or wa"),
            ({"divergence_weight": 1.0}, "divergence_weight is 1.0, but it has an effect with mod"),
            ({"inner_steps": 2}, "inner_steps is 2, but it has an effect with model glo alone"),
            ({"model": "glo", "inner_steps": -1}, "inner_steps is -1; expected 0 or positive"),
            (
                {"model": "glo", "latent_learning_rate": 0.0},
                "latent_learning_rate is 0.0; expected positive",
            ),
            ({"model": "glo", "likelihood": "bernoulli"}, "likelihood is 'bernoulli', but it has"),
            ({"code_penalty": 1.0}, "code_penalty is 1.0, but it has an effect with model rae-gmm"),
            ({"decay_steps": (5,)}, "decay_steps and decay_factors do not fit each other"),
            (
                {"decay_steps": (5,), "decay_factors": (0.5,), "schedule": "linear"},
                r"decay_steps is \(5,\), but the schedule is linear",
            ),
        ],
    )
    def test_those_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"GLFRecipe: {message}"):
            GLFRecipe(**options)

    def test_sides_that_do_not_fit(self):
        with pytest.raises(ValueError, match="the images are 10x10; expected sides that are mult"):
            make("glf", image_size=10)

    @pytest.mark.parametrize(
        ("batch_size", "device", "message"),
        [
            (
                4,
                "cpu",
                "GLFRecipe: there are 2 processes on the device 'cpu', but the networks norm",
            ),
            (
                2,
                "cpu",
                "GLFRecipe: batch_size is 2 with 2 processes; expected at least 2 images on",
            ),
        ],
    )
    def test_processes_that_batch_normalisation_does_not_suit(self, batch_size, device, message):
        recipe = small("glf", batch_size=batch_size)
        fabric = SimpleNamespace(world_size=2, device=torch.device(device))
        with pytest.raises(ValueError, match=message):
            recipe.build(fabric, recipe.load_data())

    def test_features_need_labels(self, tmp_path):
        import numpy as np

        np.save(tmp_path / "images.npy", np.zeros((20, 8, 8), np.uint8))
        with pytest.raises(ValueError, match=r"model is 'perceptual', but .* needs labels"):
            make("perceptual", data=str(tmp_path / "images.npy"))

    def test_presets_are_those_of_the_thesis(self):
        """100 epochs of 60,000 images in batches of 256, and half the learning rate after 50."""
        mnist = GLFRecipe.preset("yan2022-mnist")
        assert (mnist.steps, mnist.batch_size, mnist.latent_size) == (23_438, 256, 20)
        assert (mnist.decay_steps, mnist.decay_factors) == ((11_719,), (0.5,))
        stages = GLFRecipe.preset("yan2022-mnist-two-stage-vae")
        assert (stages.steps, stages.first_steps) == (1_125_000, 375_000)
        epochs = [step * 64 / 60_000 for step in stages.decay_steps]
        assert epochs == pytest.approx([150, 300, 400, 700, 1000], abs=0.01)
        assert stages.decay_factors == (0.5, 0.25, 1.0, 0.5, 0.25)
        celeba = GLFRecipe.preset("yan2022-celeba-wae-gan")
        assert celeba.prior_std**2 == pytest.approx(2)
        assert "yan2022-celeba-perceptual" not in GLFRecipe.presets

    def test_presets_of_wasserstein_autoencoders_and_generative_latent_optimisation(self):
        """100 epochs in batches of 100, and the rate falls after 30 and 50."""
        mmd = GLFRecipe.preset("tolstikhin2018-mnist")
        assert (mmd.model, mmd.steps, mmd.decay_steps) == ("wae-mmd", 60_000, (18_000, 30_000))
        assert (mmd.latent_size, mmd.divergence_weight) == (8, 10 / 2)
        assert GLFRecipe.preset("mnist-glo").model == "glo"


def test_the_flow_of_the_figure_has_permutations():
    assert not any(isinstance(layer, LULinear) for layer in make_flow(GLFRecipe()).modules())
