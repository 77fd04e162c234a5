"""The recipe of films from one image: held-out images, measures, resuming, the command line."""

import json

import pytest
import torch
from testing.runs import make, train_with_a_stop

from gencore import cli
from gencore.recipes.video.imagetovideo import ImageToVideoRecipe

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 3, "data": "moving-shapes", "frame_size": 8, "num_frames": 5, "num_clips": 3,
    "batch_size": 2, "state_size": 3, "noise_size": 2, "hidden_widths": (4,),
    "width": 2, "encoder_width": 2, "langevin_steps": 2, "appearance_size": 2, "tried_films": 3,
}  # fmt: skip


def small(**options) -> ImageToVideoRecipe:
    return ImageToVideoRecipe(**{**SMALL, **options})


class TestStep:
    def test_the_noise_of_a_batch_moves_and_then_all_weights(self):
        experiment, batches = make(small())
        before = experiment.latents(torch.arange(3))
        assert {name: list(part.shape) for name, part in before.items()} == {"noise": [3, 4, 2]}
        weights = [weight.clone() for weight in experiment.optimisation.module.parameters()]
        batch = batches[0]
        experiment.step(batch)
        moved = (experiment.latents(torch.arange(3))["noise"] != before["noise"]).flatten(1)
        assert moved.all(1).nonzero().flatten().tolist() == sorted(batch.index.tolist())
        assert moved.any(1).sum() == 2
        for weight, old in zip(experiment.optimisation.module.parameters(), weights, strict=True):
            assert not torch.equal(weight, old)

    def test_the_loss_is_that_of_the_frames_after_the_first(self):
        experiment, batches = make(small(learning_rate=1e-30, noise_std=0.5))
        batch = batches[0]
        scalars = experiment.step(batch)
        frames = batch.x / 127.5 - 1
        shown = experiment.model.decode(experiment.latents(batch.index), frames[:, 0])
        error = (frames[:, 1:] - shown).square().mean() / (2 * 0.5**2)
        torch.testing.assert_close(scalars["loss"], error)


class TestMeasures:
    def test_errors_are_means_over_films_in_levels(self):
        experiment, _ = make(small())
        test = torch.stack([experiment.test[index] for index in range(20)]).float()
        measures = experiment.evaluate(20)  # more than are made at once
        assert measures["num_samples"] == 20
        copied = (test[:, 1:] - test[:, :1]).abs().mean().item()
        assert measures["mae/first_frame"] == pytest.approx(copied, rel=1e-4)
        images = test[:, 0] / 127.5 - 1
        shown = experiment.model.animate(images, 4, noise=torch.zeros(20, 4, 2))
        error = (127.5 * (shown.clamp(-1, 1) + 1) - test[:, 1:]).abs().mean().item()
        assert measures["mae/without_noise"] == pytest.approx(error, rel=1e-4)
        clips = experiment.clips.float()
        shown = experiment.model.decode(
            experiment.latents(torch.arange(3)), clips[:, 0] / 127.5 - 1
        )
        error = (127.5 * (shown.clamp(-1, 1) + 1) - clips[:, 1:]).abs().mean().item()
        assert measures["mae/seen"] == pytest.approx(error, rel=1e-4)

    def test_the_nearest_of_more_films_is_nearer(self):
        experiment, _ = make(small())
        nearest = []
        for number in (1, 20):
            experiment.recipe.tried_films = number
            torch.manual_seed(0)
            nearest.append(experiment.evaluate(5)["mae/nearest"])
        assert nearest[1] < nearest[0]

    def test_films_begin_with_held_out_frames(self):
        experiment, _ = make(small())
        torch.manual_seed(3)
        films = experiment.sample(20)
        assert films.shape == (20, 5, 3, 8, 8)
        test = torch.stack([experiment.test[index] for index in range(20)]) / 255
        torch.testing.assert_close(films[:, 0], test[:, 0])
        assert 0 <= films.min() <= films.max() <= 1

    def test_figures(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_contact_sheet",
            lambda clips, path: drawn.update({path.name: clips}),
        )
        experiment, _ = make(small())
        experiment.figures(tmp_path / "figures")
        truth, shown = drawn["held_out.png"].view(4, 2, 5, 3, 8, 8).unbind(1)
        test = torch.stack([experiment.test[index] for index in range(4)]) / 255
        torch.testing.assert_close(truth, test)
        torch.testing.assert_close(shown[:, 0], test[:, 0])
        assert not torch.equal(shown[:, 1], truth[:, 1])


def test_a_resumed_run_is_the_same(tmp_path):
    train_with_a_stop(tmp_path, small())


def test_the_preset_has_the_sizes_of_the_thesis():
    recipe = ImageToVideoRecipe.preset("gao2021")
    sizes = (recipe.encoder_width, recipe.state_size, recipe.appearance_size, recipe.noise_size)
    assert sizes == (64, 80, 100, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 1}, "num_frames is 1; expected 2 or more"),
        ({"encoder_width": 0}, "encoder_width is 0; expected positive"),
        ({"tried_films": 0}, "tried_films is 0; expected positive"),
        ({"hidden_widths": (3, 0)}, r"hidden_widths is \(3, 0\)"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"ImageToVideoRecipe: {message}"):
        small(**options)


def test_the_command_trains_samples_and_evaluates(tmp_path):
    run = str(tmp_path / "run")
    words = ["train", "imagetovideo", "--out", run, "--accelerator", "cpu", "--num-evaluate", "5"]
    for name, value in SMALL.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    assert cli.main([*words, "--num-samples", "2"]) == 0
    measures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"mae/seen", "mae/nearest", "mae/first_frame"} <= measures.keys()
    assert (tmp_path / "run" / "figures" / "held_out.png").exists()
    assert cli.main(["sample", run, "--num", "3", "--out", str(tmp_path / "films.mp4")]) == 0
    assert cli.main(["evaluate", run, "--num", "5"]) == 0
