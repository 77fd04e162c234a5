"""The recipe of dynamic generators: chains of clips, hidden pixels, measures, the command line."""

import json

import pytest
import torch
from testing.runs import make, train_with_a_stop

from gencore import cli
from gencore.recipes.loaded_run import load_run
from gencore.recipes.video.dynamicgenerator import DynamicGeneratorRecipe
from gencore.recipes.video.hidden_pixels import copy_previous, hide_frames, hide_regions

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 3, "data": "moving-shapes", "frame_size": 8, "num_frames": 5, "num_clips": 3,
    "batch_size": 2, "state_size": 3, "noise_size": 2, "hidden_widths": (4,), "width": 2,
    "langevin_steps": 2, "shown_frames": 6, "burn_in": 2, "appearance_size": 2,
}  # fmt: skip


def _small(**options) -> DynamicGeneratorRecipe:
    return DynamicGeneratorRecipe(**{**SMALL, **options})


class TestStep:
    def test_the_chains_of_a_batch_move_and_then_all_weights(self):
        experiment, batches = make(_small(motion_size=1))
        generator = experiment.optimisation.module
        latents = experiment.latents(torch.arange(3))
        weights = [parameter.clone() for parameter in generator.parameters()]
        batch = batches[0]
        scalars = experiment.step(batch)
        moved = experiment.latents(torch.arange(3))
        rest = next(iter(set(range(3)) - set(batch.index.tolist())))
        for name in ("noise", "start", "appearance", "motion"):
            assert torch.equal(moved[name][rest], latents[name][rest])
            for clip in batch.index:
                assert (moved[name][clip] != latents[name][clip]).all()
        for parameter, before in zip(generator.parameters(), weights, strict=True):
            assert not torch.equal(parameter, before)
        assert scalars["loss"] > 0

    def test_the_loss_is_that_of_the_latents_after_the_chains(self):
        experiment, batches = make(_small(learning_rate=1e-30, hidden="regions", noise_std=0.5))
        batch = batches[0]
        scalars = experiment.step(batch)
        latents = experiment.latents(batch.index)
        frames = batch.x / 127.5 - 1
        error = (frames - experiment.model.reconstruct(latents)).square()
        error = error[experiment.mask[batch.index].expand_as(error)].sum() / 2
        torch.testing.assert_close(scalars["loss"], error / (2 * 0.5**2 * 5 * 3 * 64))

    def test_parts_of_a_batch_are_the_batch(self):
        whole, parts = (make(_small(accumulate=number))[0] for number in (1, 2))
        batch = make(_small())[1][0]
        for experiment in (whole, parts):
            torch.manual_seed(1)
            experiment.scalars = experiment.step(batch)
        torch.testing.assert_close(parts.scalars, whole.scalars)
        index = torch.arange(3)
        torch.testing.assert_close(parts.latents(index), whole.latents(index))

    def test_a_hidden_pixel_does_not_count(self):
        losses = []
        for level in (0, 255):
            experiment, batches = make(_small(hidden="frames"))
            batch = batches[0]
            seen = experiment.mask[batch.index].expand_as(batch.x)
            batch.x[~seen] = level
            torch.manual_seed(1)
            losses.append(experiment.step(batch)["loss"])
        assert torch.equal(*losses)


class TestHidden:
    def test_regions_are_squares_at_places_of_their_own(self):
        mask = hide_regions((2, 30, 3, 20, 10), 0.3, seed=0)
        assert mask.shape == (2, 30, 1, 20, 10)
        hidden = ~mask[:, :, 0]
        assert (hidden.any(3).sum(2) == 6).all()
        assert (hidden.any(2).sum(2) == 3).all()
        assert (hidden.sum((2, 3)) == 18).all()
        assert hidden.flatten(2).int().argmax(2).unique().numel() > 30
        assert torch.equal(hide_regions((1, 30, 3, 20, 10), 0.3, seed=0), mask[:1])

    def test_frames_are_hidden_whole_but_never_the_first(self):
        mask = hide_frames((3, 10, 3, 8, 8), 0.5, seed=0)
        assert mask.shape == (3, 10, 1, 1, 1)
        assert (mask.sum(1) == 5).all()
        assert mask[:, 0].all()
        assert not torch.equal(mask[0], mask[1])
        assert hide_frames((1, 4, 1, 2, 2), 1.0, seed=0).sum() == 1

    def test_the_frame_before(self):
        film = torch.arange(1.0, 7).view(1, 6, 1).repeat(1, 1, 3)
        mask = torch.ones(1, 6, 3, dtype=torch.bool)
        mask[0, 2:4, 0] = mask[0, :2, 1] = mask[0, :, 2] = False
        film[~mask] = torch.nan
        copied = copy_previous(film, mask)
        assert copied[0, :, 0].tolist() == [1, 2, 2, 2, 5, 6]
        assert copied[0, :, 1].tolist() == [3, 3, 3, 4, 5, 6]
        torch.testing.assert_close(copied[0, :, 2], torch.full((6,), 32.0 / 8))

    @pytest.mark.parametrize("hide", [hide_frames, hide_regions])
    def test_parts_beyond_the_whole_are_told(self, hide):
        with pytest.raises(ValueError, match=r"the hidden part is 1\.5; expected 0 to 1"):
            hide((1, 2, 3, 8, 8), 1.5, seed=0)


class TestMeasures:
    def test_errors_are_means_over_pixels_in_levels(self):
        experiment, _ = make(_small(hidden="frames", missing_frames=0.4))
        clips = experiment.clips
        measures = experiment.evaluate(10)
        shown = experiment.model.reconstruct(experiment.latents(torch.arange(3)))
        error = (127.5 * (shown + 1) - clips).abs()
        hidden = ~experiment.mask.expand_as(error)
        assert measures["num_samples"] == 3
        assert measures["mae/hidden"] == pytest.approx(error[hidden].mean().item(), rel=1e-4)
        assert measures["mae/seen"] == pytest.approx(error[~hidden].mean().item(), rel=1e-4)
        seen = experiment.mask[:, :, 0, 0, 0]
        copied = []
        for clip, frames in zip(clips.float(), seen, strict=True):
            for t in (~frames).nonzero().flatten():
                before = max(k for k in range(t) if frames[k])
                copied.append((clip[before] - clip[t]).abs().mean())
        expected = torch.stack(copied).mean().item()
        assert measures["mae/hidden_copy_previous"] == pytest.approx(expected, rel=1e-4)
        assert measures["mae/hidden_linear"] > 0

    def test_films_have_the_appearances_of_the_clips(self):
        experiment, _ = make(_small())
        torch.manual_seed(3)
        films = experiment.sample(4)
        assert films.shape == (4, 6, 3, 8, 8)
        assert films.min() >= 0
        assert films.max() <= 1

    def test_figures(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_image_grid",
            lambda images, path, columns: drawn.update({path.name: (images, columns)}),
        )
        experiment, _ = make(_small(hidden="regions"))
        experiment.figures(tmp_path / "figures")
        images, columns = drawn["clips.png"]
        clips = experiment.clips / 255
        rows = images.view(3, 3, columns, 3, 8, 8)
        torch.testing.assert_close(rows[:, 0], clips)
        torch.testing.assert_close(rows[:, 1], torch.where(experiment.mask, clips, 0))
        images, columns = drawn["appearances.png"]
        shown = experiment.model.reconstruct(experiment.latents(torch.arange(3)))
        table = images.view(3, 3, -1, 3, 8, 8)  # appearance, clip
        for clip in range(3):
            torch.testing.assert_close(table[clip, clip], (shown[clip] + 1) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"metropolis": True, "hidden": "frames"}])
def test_a_resumed_run_is_the_same(tmp_path, options):
    train_with_a_stop(tmp_path, _small(**options))


@pytest.mark.parametrize("name", DynamicGeneratorRecipe.presets)
def test_presets_have_the_settings_of_the_thesis(name):
    recipe = DynamicGeneratorRecipe.preset(name)
    assert (recipe.frame_size, recipe.langevin_steps) == (64, 15)
    if name == "gao2021-actions":
        sizes = (recipe.state_size, recipe.noise_size, recipe.appearance_size)
        assert (*sizes, recipe.num_frames) == (100, 50, 100, 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region_size": 0.5}, "region_size is 0.5, but it has an effect with"),
        ({"hidden": "frames", "missing_frames": 1.5}, "missing_frames is 1.5; expected from 0"),
        ({"step_std": 0.0}, "step_std is 0.0; expected positive"),
        ({"num_clips": 0}, "num_clips is 0; expected positive"),
        ({"metropolis": True, "langevin_noise": False}, "metropolis corrects steps with noise"),
        ({"hidden_widths": (3, 0)}, r"hidden_widths is \(3, 0\)"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"DynamicGeneratorRecipe: {message}"):
        _small(**options)


def test_more_clips_than_there_are():
    with pytest.raises(ValueError, match="num_clips is 99999; expected at most 10000"):
        _small(num_clips=99_999).load_data()


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "hidden": "frames", "num_evaluate": 2, "hidden_widths": 4}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = ["train", "dynamicgenerator", "--accelerator", "cpu", "--out", str(out), *words]
    assert cli.main(command) == 0
    assert "mae/hidden" in json.loads((out / "metrics.json").read_text())
    for name in ("clips", "appearances"):
        assert (out / "figures" / f"{name}.png").is_file()
    picture = tmp_path / "films.png"
    assert cli.main(["sample", str(out), "--num", "3", "--out", str(picture)]) == 0
    assert picture.is_file()
    assert cli.main(["evaluate", str(out), "--num", "3"]) == 0
    loaded = load_run(out, "cpu", with_data=False)[1]
    assert len(loaded.chains) == 3
