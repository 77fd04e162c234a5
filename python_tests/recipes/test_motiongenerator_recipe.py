"""The recipe of motion-based generators: chains, resume, measures, figures and the command line."""

import json

import pytest
import torch
from testing.runs import make, train, train_with_a_stop

from gencore import cli
from gencore.data import flow_to_image, to_float
from gencore.models import MotionFilm
from gencore.recipes.video.motiongenerator import MotionGeneratorRecipe
from gencore.recipes.video.motiongenerator_experiment import shown_parts

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 4, "frame_size": 8, "num_frames": 5, "width": 2, "langevin_steps": 2,
    "num_clips": 3, "batch_size": 2, "motion_code_size": 2,
}  # fmt: skip


def small(**options):
    return MotionGeneratorRecipe(**{**SMALL, **options})


class TestStep:
    def test_chains_of_the_batch_move_on_and_others_keep_their_bits(self):
        experiment, batches = make(small())
        before = experiment.chains.rows.values.clone()
        batch = batches[0]
        weights = [weight.clone() for weight in experiment.model.parameters()]
        scalars = experiment.step(batch)
        moved = (experiment.chains.rows.values != before).any(1)
        assert set(moved.nonzero().flatten().tolist()) == set(batch.index.tolist())
        assert any(
            not torch.equal(a, b)
            for a, b in zip(weights, experiment.model.parameters(), strict=True)
        )
        assert list(scalars) == ["loss", "error", "residual", "roughness"]

    def test_the_loss_is_that_of_the_latents_after_the_chains(self):
        """The weights see latents that the chains have moved with the weights before the step."""
        experiment, batches = make(small())
        batch = batches[0]
        model = experiment.model
        seen = {}
        loss = model.loss
        model.loss = lambda frames, latents: (
            seen.update(z=latents, x=frames) or loss(frames, latents)
        )
        experiment.step(batch)
        assert torch.equal(seen["x"], to_float(batch.x, -1, 1))
        kept = experiment.chains(batch.index)
        assert all(torch.equal(seen["z"][name], kept[name]) for name in kept)

    def test_a_step_in_parts_is_that_of_the_whole(self):
        whole, batches = make(small())
        parts, _ = make(small(accumulate=2))
        for experiment in (whole, parts):
            torch.manual_seed(1)
            experiment.scalars = experiment.step(batches[0])
        torch.testing.assert_close(parts.scalars, whole.scalars)
        torch.testing.assert_close(parts.chains.rows.values, whole.chains.rows.values)


class TestMeasures:
    def test_of_a_film_that_is_known(self):
        """I + R is off by 0.5 of pixels in [−1, 1], and R is half of the film."""
        experiment, _ = make(small())
        clips = to_float(experiment.clips, -1, 1)
        motion = torch.zeros(3, 4, 2, 8, 8)
        motion[:, :, 0], motion[:, :, 1] = 3.0, -4.0
        film = MotionFilm(clips + 0.5, clips, 0.5 * clips, motion)
        experiment._reconstructed = lambda part: film
        measures = experiment.evaluate(100)
        expected = {
            "num_samples": 3, "mse": 0.25**2, "intrackability": 0.5,
            "intrackability_mean_of_ratios": 0.5, "displacement": 5.0,
        }  # fmt: skip
        assert measures == pytest.approx(expected)

    def test_samples_have_the_clips_appearance_and_motions_of_their_own(self):
        experiment, _ = make(small(residual_code_size=1))
        for weight in (experiment.model.displacement.decoder.ups[-1].weight,):
            torch.nn.init.normal_(weight, std=1.0)
        torch.nn.init.zeros_(experiment.model.residual.ups[-1].weight)
        samples = experiment.sample(7, torch.Generator().manual_seed(0))
        assert samples.shape == (7, 5, 3, 8, 8)
        codes = experiment.chains(torch.arange(7) % 3)
        with torch.no_grad():
            images = experiment.model.appearance(codes["appearance"]) / 2 + 0.5
        torch.testing.assert_close(samples[:, 0], images)
        assert not torch.allclose(samples[0, 1:], samples[3, 1:], atol=1e-3)


class TestFigures:
    def test_parts_are_shown_with_zero_at_grey(self):
        x = torch.rand(2, 12, 1, 4, 5) * 2 - 1
        motion = torch.zeros(2, 11, 2, 4, 5)
        motion[:, :, 0] = -1.0  # from the left: all moves to the right
        film = MotionFilm(x + 0.1, x, torch.full_like(x, -0.5), motion)
        clips, frames, trackable, residuals, colours = shown_parts(x, film)
        assert all(part.shape == (2, 8, 3, 4, 5) for part in (clips, frames, residuals, colours))
        assert torch.equal(clips[:, [0, -1], 0], x[:, [0, -1], 0] / 2 + 0.5)
        torch.testing.assert_close(trackable, clips)
        torch.testing.assert_close(frames, clips + 0.05)
        assert (residuals == 0.25).all()
        assert (colours[:, 0] == 1).all()
        right = torch.zeros(1, 2, 4, 5)
        right[:, 0] = 1.0
        expected = to_float(flow_to_image(right, max_flow=1.0))
        torch.testing.assert_close(colours[:, 1:], expected.expand(2, 7, 3, 4, 5))

    def test_a_picture_moves_with_the_first_clip(self, tmp_path, monkeypatch):
        drawn = {}
        monkeypatch.setattr(
            "gencore.train.figures.save_contact_sheet",
            lambda clips, path: drawn.update({path.name: clips}),
        )
        path = tmp_path / "a.ppm"
        path.write_bytes(b"P6 8 8 255 " + bytes(range(192)))
        experiment, _ = make(small(transfer=str(path)))
        experiment.figures(tmp_path / "figures")
        expected = torch.arange(192.0).view(8, 8, 3).permute(2, 0, 1) / 255
        torch.testing.assert_close(drawn["transfer.png"][1, 0], expected)
        assert drawn["transfer.png"].shape == (2, 5, 3, 8, 8)
        assert drawn["parts.png"].shape == (2 * 5, 5, 3, 8, 8)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    resumed, _ = train_with_a_stop(tmp_path, small())
    assert "values" in resumed.state["latents"].state_dict()


@pytest.mark.parametrize("name", MotionGeneratorRecipe.presets)
def test_presets_are_the_points_of_the_figure(name):
    recipe = MotionGeneratorRecipe.preset(name, data="carphone")
    assert recipe.roughness_weight == 0.005
    assert f"gao2021-lambda{recipe.residual_weight:g}" == name


def test_there_is_a_preset_for_each_preference():
    weights = {p["residual_weight"] for p in MotionGeneratorRecipe.presets.values()}
    assert weights == {0.5, 1.0, 2.0, 5.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual_weight": -1.0}, "residual_weight is -1.0; expected 0 or positive"),
        ({"step_std": 0.0}, "step_std is 0.0; expected positive"),
        ({"residual_form": "l1"}, "residual_form is 'l1'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"MotionGeneratorRecipe: {message}"):
        small(**options)


def test_a_picture_that_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png is no file"):
        train(tmp_path / "run", small(transfer="nowhere.png"))


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "steps": 2, "num_samples": 2}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    words += ["--accelerator", "cpu", "--out", str(out)]
    assert cli.main(["train", "motiongenerator", *words]) == 0
    assert "intrackability" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "parts.png").is_file()
    assert cli.main(["evaluate", str(out)]) == 0
    assert cli.main(["sample", str(out), "--num", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").is_file()
