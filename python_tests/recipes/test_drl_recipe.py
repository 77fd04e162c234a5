"""The recipe of diffusion recovery likelihood on images: presets, training, figures, measures."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from torch import nn

from gencore import cli
from gencore.data import to_float
from gencore.metrics import frechet_distance, pixel_features
from gencore.models import DiffusionRecoveryEBM, NoiseSchedule
from gencore.models.diffusion.diffusion_recovery_ebm import RecoveryEnergy
from gencore.recipes.diffusion.drl import DRLRecipe
from gencore.recipes.diffusion.drl_experiment import energy_network, least_stds, settings
from gencore.train import Batch, Diverged, RunFolder, fit
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")

SMALL = {"num_levels": 2, "chain_steps": 2, "batch_size": 8, "steps": 3}


def make(**options):
    recipe = DRLRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def rows(experiment, start, end):
    return Batch(experiment.dataset.images[start:end], None, torch.arange(start, end))


def train(run_dir, *, resume=False, **options):
    return fit(
        DRLRecipe(**{**SMALL, **options}), run_dir, accelerator="cpu", progress=False,
        resume=resume, log_every=1, num_samples=4, num_evaluate=0,
    )  # fmt: skip


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


class TestPresets:
    def test_t6_is_the_models_own(self):
        recipe = DRLRecipe.preset("gao2021-cifar10-t6")
        ours = DiffusionRecoveryEBM(nn.Linear(1, 1), (1,), **settings(recipe))
        preset = DiffusionRecoveryEBM.preset("T6", nn.Linear(1, 1), (1,))
        assert repr(ours) == repr(preset)
        assert torch.equal(ours.schedule.variances, preset.schedule.variances)
        assert [ours.step_std(t) for t in range(6)] == [preset.step_std(t) for t in range(6)]
        assert (ours.noise_factor, ours.is_output_per_step) == (0.99, True)

    def test_the_noise_of_six_levels_in_closed_form(self):
        """ā² of level t is the product of 1 − β over as many steps, and δ² = 2e-4·c²σ²."""
        products = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        kept = np.array([1, *products[[100, 200, 300, 400, 500, 999]]])
        chosen = settings(DRLRecipe.preset("gao2021-cifar10-t6"))
        variances = 1 - kept[1:] / kept[:-1]
        np.testing.assert_allclose(chosen["schedule"].variances, variances, rtol=1e-10)
        growth = np.sqrt((1 - np.array([products[0], *kept[1:-1]])) / 1e-4)
        np.testing.assert_allclose(np.square(chosen["level_factors"]), growth, rtol=1e-9)
        weights = np.sqrt(variances[0] / variances)
        np.testing.assert_allclose(chosen["level_weights"], weights, rtol=1e-9)

    def test_other_numbers_of_levels(self):
        one = settings(DRLRecipe.preset("gao2021-cifar10-t1-k180"))
        assert (one["schedule"].num_steps, one["num_steps"]) == (1, 180)
        assert one["is_last_marginal"]
        many = settings(DRLRecipe.preset("gao2021-cifar10-t1k"))
        np.testing.assert_allclose(many["schedule"].variances, np.linspace(1e-4, 0.02, 1000))
        assert not many["is_last_marginal"]
        assert "is_output_per_step" not in many
        assert settings(DRLRecipe(num_levels=501))["schedule"].num_steps == 501

    @pytest.mark.parametrize("name", [n for n in DRLRecipe.presets if n.startswith("gao2021")])
    def test_networks_suit_their_images(self, name):
        recipe = DRLRecipe.preset(name, spectral_norm=False)
        shape = torch.Size((3, recipe.image_size, recipe.image_size))
        with torch.device("meta"):
            energy = energy_network(recipe, shape)
        assert energy.shape == shape
        assert len(energy.resolutions[0]) == recipe.num_blocks
        assert energy.first.out_channels == 128


class TestStepSizes:
    @pytest.mark.parametrize("is_last_marginal", [True, False])
    def test_they_are_the_chains_own_deviations_where_data_do_not_vary(self, is_last_marginal):
        """Of data N(0, s²I), by the curvature of the chains' energies at every level."""
        schedule, noise = NoiseSchedule([0.1, 0.3, 0.5]), 0.2
        factors = least_stds(schedule, noise, is_last_marginal=is_last_marginal)
        for t, factor in enumerate(factors):
            sigma, kept = schedule.variances[t].sqrt().item(), schedule.mean_scales[t].item()
            is_marginal = is_last_marginal and t == 2
            scale = 1.0 if is_marginal else math.sqrt(1 - sigma**2)
            of_y = (scale * math.hypot(kept * noise, math.sqrt(1 - kept**2))) ** 2

            def energy(y, of_y=of_y):
                return y.square().sum(1) / (2 * of_y)

            y = torch.zeros(1, 1, dtype=torch.float64)
            chain = energy if is_marginal else RecoveryEnergy(energy, torch.zeros_like(y), sigma)
            curvature = torch.autograd.functional.hessian(lambda y, e=chain: e(y).sum(), y)
            assert factor * sigma == pytest.approx(curvature.item() ** -0.5, rel=1e-9)

    def test_data_without_noise_count_as_nearly_without(self):
        schedule = NoiseSchedule([0.1, 0.3])
        none, little, more = (
            least_stds(schedule, s, is_last_marginal=False) for s in (0.0, 0.03, 0.04)
        )
        assert none == little
        assert more[0] > little[0] > 0

    def test_a_recipes_steps_have_that_size_times_its_factor(self):
        experiment = make(num_levels=6, data_noise=0.1, step_factor=0.5)
        schedule = experiment.ebm.schedule
        factors = least_stds(schedule, 0.1, is_last_marginal=True)
        stds = 0.5 * np.array(factors) * schedule.variances.sqrt().numpy()
        np.testing.assert_allclose([experiment.ebm.step_std(t) for t in range(6)], stds)
        scales = [experiment.ebm.level_scale(t) for t in range(6)]
        np.testing.assert_allclose(experiment.ebm.energy.scales, scales)


class TestExperiment:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"network": "digits", "spectral_norm": True, "random_flips": True},
            {"units": "step", "step_factor": 0.014},
            {"step_factor": 0.1, "num_levels": 1},
            {"num_levels": 1000, "chain_steps": 0},
            {"data": "photos", "image_size": 16, "network": "mnist", "num_blocks": 2},
        ],
    )
    def test_a_step_trains_and_samples_are_images(self, options):
        experiment = make(**options)
        before = weights(experiment.ebm)
        logs = experiment.step(rows(experiment, 0, 8))
        assert logs.keys() == {"loss", "energy_data", "energy_samples", "grad_norm"}
        assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
        assert not torch.equal(weights(experiment.ebm), before)
        if not options.get("chain_steps", 1):
            return  # a thousand levels: samples take long
        samples = experiment.sample(5)
        assert samples.shape == (5, *experiment.image_shape)
        assert 0 <= samples.min() < samples.max() <= 1

    def test_the_model_sees_flipped_and_noisy_images(self):
        experiment = make(random_flips=True, data_noise=0.0)
        seen = []
        experiment.ebm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        experiment.step(rows(experiment, 0, 200))
        x = to_float(experiment.dataset.images[:200], -1, 1)
        same, mirrored = ((seen[0] == y).flatten(1).all(1) for y in (x, x.flip(-1)))
        assert (same | mirrored).all()
        assert mirrored.sum().item() == pytest.approx(100, abs=5 * math.sqrt(50))
        experiment.recipe = DRLRecipe(**SMALL, data_noise=0.3)
        experiment.step(rows(experiment, 0, 200))
        # The standard error of a standard deviation of 12,800 normals is 0.3/√25,600.
        assert (seen[1] - x).std().item() == pytest.approx(0.3, abs=5 * 0.3 / 160)

    def test_parts_of_a_batch_see_what_the_whole_sees(self):
        whole, parts = make(), make(accumulate=3)
        for experiment in (whole, parts):
            torch.manual_seed(5)
            experiment.step(rows(experiment, 0, 8))
        torch.testing.assert_close(weights(whole.ebm), weights(parts.ebm), rtol=1e-4, atol=1e-5)

    def test_samples_come_from_averaged_weights_and_the_generator(self):
        experiment = make(ema_decay=1.0)
        experiment.step(rows(experiment, 0, 8))  # the average begins with these weights, and stays
        first = weights(experiment.ebm)
        draw = experiment.sample(3, torch.Generator().manual_seed(1))
        experiment.step(rows(experiment, 8, 16))
        assert torch.equal(weights(experiment.optimisation.averaged), first)
        assert not torch.equal(weights(experiment.ebm), first)
        assert torch.equal(experiment.sample(3, torch.Generator().manual_seed(1)), draw)
        assert not torch.equal(experiment.sample(3, torch.Generator().manual_seed(2)), draw)

    def test_its_state_is_all_that_the_next_steps_depend_on(self):
        source, target = (make(network="digits", spectral_norm=True, seed=n) for n in (0, 1))
        source.step(rows(source, 0, 8))
        for name, part in target.state.items():
            part.load_state_dict(deepcopy(source.state[name].state_dict()))
        for experiment in (source, target):
            torch.manual_seed(2)
            experiment.step(rows(source, 8, 16))
            experiment.step(rows(source, 16, 24))
        one, other = (e.sample(4, torch.Generator().manual_seed(0)) for e in (source, target))
        assert torch.equal(one, other)

    def test_divergence_stops_before_the_weights_move(self):
        experiment = make(max_gap=1e-12)
        before = weights(experiment.ebm)
        with pytest.raises(Diverged, match="differ by more than") as raised:
            experiment.step(rows(experiment, 0, 8))
        assert "learning_rate" in raised.value.advice
        assert torch.equal(weights(experiment.ebm), before)

    def test_measures_of_real_images_and_of_noise(self):
        """Samples of an untrained model are noise: real images of the other part are nearer."""
        experiment = make()
        measures = experiment.evaluate(200)
        for kind in ("pixels", "classifier"):
            train, samples = (measures[f"frechet_{kind}/{x}"] for x in ("train", "samples"))
            assert 0 < train < measures[f"frechet_{kind}/independent_pixels"] < samples

    @pytest.mark.parametrize(("levels", "columns"), [(2, 3), (20, 12)])
    def test_the_figure_leads_from_noise_to_samples(self, tmp_path, monkeypatch, levels, columns):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns, **_: drawn.update({path.name: (images, columns)}),
        )
        experiment = make(num_levels=levels, chain_steps=1)
        experiment.figures(tmp_path / "figures")
        images, found = drawn["progressive.png"]
        assert found == columns
        assert images.shape == (10 * columns, 1, 8, 8)
        # The first column is N(0, I) of pixels in [-1, 1], a third of which is clipped.
        first = images.unflatten(0, (10, columns))[:, 0]
        assert (first % 1 == 0).float().mean().item() == pytest.approx(0.317, abs=0.1)


def test_an_interrupted_run_is_the_straight_one(tmp_path):
    options = {"schedule": "constant", "network": "digits", "spectral_norm": True}
    train(tmp_path / "straight", steps=4, **options)
    train(tmp_path / "two", steps=2, **options)
    torch.manual_seed(99)
    train(tmp_path / "two", steps=4, resume=True, **options)
    states = [read_state(tmp_path / run / "checkpoint.safetensors") for run in ("straight", "two")]
    for name, value in states[0]["state"]["model"].items():
        assert torch.equal(value, states[1]["state"]["model"][name])
    for name in ("log.csv", "samples.png"):
        straight, two = ((tmp_path / run / name).read_bytes() for run in ("straight", "two"))
        assert straight == two


@pytest.mark.usefixtures("quick_classifier")
def test_the_command_trains_samples_and_evaluates(tmp_path, capsys):
    out = tmp_path / "run"
    words = "train drl --steps 2 --batch-size 8 --num-levels 3 --chain-steps 2 --num-samples 4 "
    words += "--accelerator cpu --num-evaluate 20 --out"
    assert cli.main([*words.split(), str(out)]) == 0
    assert (out / "figures" / "progressive.png").exists()
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape[0] == 5
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    assert "frechet_classifier/samples" in json.loads(RunFolder(out).metrics.read_text())
    assert "frechet_pixels/samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels is 0; expected positive"),
        ({"num_levels": 502}, "num_levels is 502; expected 1 to 501, or 1000"),
        ({"chain_steps": 0}, "chain_steps is 0, the normal approximation, which needs"),
        (
            {"chain_steps": 0, "num_levels": 1000, "units": "step"},
            'got num_levels 1000 and units "step"',
        ),
        ({"step_factor": 0.0}, r"step_factor is 0\.0; expected positive"),
        ({"data_noise": -1.0}, r"data_noise is -1\.0; expected 0 or positive"),
        ({"units": "watts"}, "units is 'watts'; expected one of step, energy"),
        ({"network": "large"}, "network is 'large'; expected one of auto, conv, digits"),
        ({"num_blocks": 0}, "num_blocks is 0; expected positive"),
        ({"num_blocks": 2}, "num_blocks is 2 and spectral_norm False with the network 'conv'"),
        ({"spectral_norm": True, "accumulate": 2}, "accumulate is 2, but with spectral_norm"),
        ({"image_size": 9}, "the network 'conv' does not take images of 9x9"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    words = "train drl --steps 3 --batch-size 8 --num-levels 2 --chain-steps 2"
    runs = run_on_one_and_two([*words.split(), *TRAIN_ALONE], tmp_path)
    logs = [read_log(run.log) for run in runs]
    for name, column in logs[0].items():
        assert logs[1][name][0] == pytest.approx(column[0], rel=1e-5)
        # Adam's first steps turn the rounding of gradients near 0 into steps of its rate.
        assert logs[1][name] == pytest.approx(column, abs=2e-3)


@pytest.mark.slow
def test_training_brings_samples_to_the_data(tmp_path):
    """More than a third of the untrained chains' Fréchet distance of pixels, 12.3, is gone."""
    options = {"num_levels": 6, "chain_steps": 15, "batch_size": 16}
    distances = []
    for steps in (1, 150):
        experiment = train(tmp_path / str(steps), steps=steps, **options)
        samples = experiment.sample(200, torch.Generator().manual_seed(0))
        distances.append(frechet_distance(samples, experiment.test.images, pixel_features))
    assert distances[1] < 2 / 3 * distances[0]
