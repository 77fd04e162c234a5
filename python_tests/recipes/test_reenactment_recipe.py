"""The recipe of first-order motion: its step, measures, figures, resuming, the command."""

import pytest
import torch
from testing.runs import make, train_with_a_stop

from gencore import cli
from gencore.data import load_video, to_float
from gencore.recipes.faces.reenactment import ReenactmentRecipe

SMALL = {
    "data": "moving-shapes", "frame_size": 32, "patch_size": 32, "frame_step": 1, "stride": None,
    "num_frames": 3, "num_points": 3, "widths": (4, 6), "batch_size": 2,
}  # fmt: skip


def recipe(**options):
    return ReenactmentRecipe(**{**SMALL, **options})


def test_a_step_poses_the_first_frame_as_the_others():
    experiment, batches = make(recipe())
    seen, batch = [], batches[0]
    experiment.optimisation.module.animator.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs)
    )
    detected = []
    experiment.optimisation.module.detector.register_forward_pre_hook(
        lambda _, inputs: detected.append(inputs[0])
    )
    scalars = experiment.step(batch)
    frames = to_float(batch.x)
    source, _, _ = seen[0]
    assert torch.equal(source, frames[:, 0].repeat_interleave(2, 0))
    assert torch.equal(detected[0], source)
    assert torch.equal(detected[1], frames[:, 1:].flatten(0, 1))
    total = scalars["reconstruction"] + 0.02 * (scalars["position"] + scalars["jacobian"])
    torch.testing.assert_close(scalars["loss"], total)


def test_a_little_training_lowers_the_error():
    experiment, batches = make(recipe(learning_rate=3e-3))
    errors = [experiment.step(batches[i])["reconstruction"].item() for i in range(40)]
    assert sum(errors[-5:]) < 0.6 * sum(errors[:5])


def test_measures_are_of_test_clips():
    experiment, _ = make(recipe())
    found = experiment.evaluate(3)
    clips = load_video("moving-shapes", clip_length=3, split="test", image_size=32)
    chosen = [to_float(clips[len(clips) * i // 3]) for i in range(3)]
    still = sum((clip[:1] - clip[1:]).abs().mean().item() for clip in chosen) / 3
    posed = 0.0
    for clip in chosen:
        image = experiment.model(clip[:1].expand_as(clip[1:]), clip[1:]).image
        posed += (image - clip[1:]).abs().mean().item() / 3
    assert found["num_samples"] == 3
    assert found["l1/first_frame"] == pytest.approx(still, rel=1e-5)
    assert found["l1/model"] == pytest.approx(posed, rel=1e-5)
    assert found == experiment.evaluate(3)


def test_samples_move_as_the_next_clip_does():
    experiment, _ = make(recipe())
    samples = experiment.sample(3)
    clips = [to_float(experiment.test[len(experiment.test) * i // 3]) for i in range(3)]
    expected = experiment.model.animate(clips[2][:1], clips[0])
    torch.testing.assert_close(samples[2], expected)
    assert samples.shape == (3, 3, *clips[0].shape[1:])


def test_a_resumed_run_is_the_run(tmp_path):
    whole = recipe(steps=4, ema_decay=0.9)
    train_with_a_stop(tmp_path, whole, stop=2, num_evaluate=2, num_samples=2)
    for name in ("samples.png", "figures/key_points.png"):
        assert (tmp_path / "whole" / name).exists()


def test_the_command(tmp_path, capsys):
    sizes = ["--frame-size=32", "--patch-size=32", "--frame-step=1", "--stride=None"]
    networks = [
        "--num-frames=3",
        "--num-points=3",
        "--widths",
        "4",
        "6",
        "--batch-size=2",
        "--steps=1",
    ]
    ends = [
        "--batch-size=2",
        "--steps=1",
        "--num-samples=2",
        "--num-evaluate=2",
        "--accelerator=cpu",
    ]
    folder = ["--out", str(tmp_path / "run")]
    cli.main(["train", "reenactment", "--data=moving-shapes", *sizes, *networks, *ends, *folder])
    assert "l1/model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 1}, "num_frames is 1; expected at least 2"),
        ({"patch_size": 30}, "patch_size is 30; expected a multiple of 4"),
        ({"accumulate": 2}, "accumulate is 2"),
        ({"max_scale": 0.5}, "max_scale is 0.5"),
        ({"num_points": 0}, "num_points"),
        ({"widths": ()}, "widths"),
        ({"equivariance_weight": -1.0}, "equivariance_weight"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        recipe(**options)
