"""Textures that drift, noise, and single pictures."""

import numpy as np
import pytest
import torch

from gencore.data import DriftingTextures, WhiteNoise, load_video, to_float
from gencore.data.images.picture import load_picture
from gencore.ops import warp


class TestDriftingTextures:
    def test_whole_velocities_are_shifts(self):
        for clip in DriftingTextures(clip_length=4, num_clips=3, velocity=(2.0, -1.0)):
            assert torch.equal(clip[1:, :, :-1, 2:], clip[:-1, :, 1:, :-2])
            assert clip.float().std() > 10

    @pytest.mark.parametrize("frame_step", [1, 3])
    def test_the_displacement_of_warp_is_minus_the_velocity(self, frame_step):
        clips = DriftingTextures(
            clip_length=3, num_clips=4, image_size=40, frame_step=frame_step, speed=0.7, channels=1
        )
        for index, clip in enumerate(clips):
            frames = to_float(clip)
            velocity = torch.tensor(clips.velocity(index))
            assert velocity.norm().item() == pytest.approx(0.7 * frame_step)
            flow = -velocity.view(1, 2, 1, 1).expand(2, 2, 40, 40)
            moved, still = warp(frames[:-1], flow), frames[:-1]
            error, stay = (
                (x - frames[1:])[..., 4:-4, 4:-4].square().mean().sqrt() for x in (moved, still)
            )
            # What is left is the interpolation's error, a quarter of a step's curvature.
            assert error < 0.35 * stay

    def test_clips_are_named_by_seed_split_and_number(self):
        clips = DriftingTextures(clip_length=2, num_clips=5, seed=3)
        assert torch.equal(clips[4], DriftingTextures(clip_length=2, num_clips=9, seed=3)[4])
        others = [
            DriftingTextures(clip_length=2, num_clips=5, seed=4),
            DriftingTextures(clip_length=2, num_clips=5, seed=3, split="test"),
        ]
        seen = {bytes(clip.numpy()) for part in (clips, *others) for clip in part}
        assert len(seen) == 15

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"velocity": (1.0,)}, r"velocity = \(1.0,\)"),
            ({"velocity": (float("nan"), 0.0)}, "velocity = "),
            ({"speed": -1.0}, "speed = -1.0"),
            ({"channels": 2}, "channels = 2"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=f"DriftingTextures: .*{message}"):
            DriftingTextures(**{"clip_length": 3, **options})


class TestWhiteNoise:
    def test_levels_are_uniform_and_independent(self):
        clips = load_video("white-noise", clip_length=5)
        frames = torch.stack([clips[index] for index in range(4)]).double()
        num = frames.numel()
        mean, variance = 127.5, (256**2 - 1) / 12
        assert abs(frames.mean() - mean) < 5 * (variance / num) ** 0.5
        assert abs(frames.var() / variance - 1) < 5 * (0.8 / num) ** 0.5
        centred = (frames - mean) / variance**0.5
        # From frame to frame, from pixel to pixel and from clip to clip.
        pairs = [
            (centred[:, 1:], centred[:, :-1]),
            (centred[..., 1:], centred[..., :-1]),
            (centred[1:], centred[:-1]),
        ]
        for a, b in pairs:
            assert abs((a * b).mean()) < 5 * a.numel() ** -0.5

    def test_a_frame_does_not_depend_on_those_that_are_read(self):
        clips = WhiteNoise(clip_length=3, num_clips=2, frame_step=2, image_size=8)
        assert torch.equal(clips.films[1].read(range(2, 3))[0], clips[1][1])
        assert not torch.equal(clips[0], clips[1])


class TestPicture:
    def test_a_file_and_a_photograph(self, tmp_path):
        pytest.importorskip("PIL.Image")
        pytest.importorskip("skimage")
        path = tmp_path / "a.pgm"
        path.write_bytes(b"P5 3 2 255 " + bytes(range(6)))
        assert load_picture(path).tolist() == [[[0, 1, 2], [3, 4, 5]]]
        astronaut = load_picture("astronaut")
        assert astronaut.shape == (3, 512, 512)
        assert astronaut.dtype == torch.uint8
        assert np.unique(astronaut.numpy()).size > 200

    def test_no_such_picture(self):
        with pytest.raises(FileNotFoundError, match=r"nowhere is no file; expected .* astronaut"):
            load_picture("nowhere")
