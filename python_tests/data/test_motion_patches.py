"""Patches of clips in which something moves."""

import numpy as np
import pytest
import torch

from gencore.data.video.motion_patches import draw_motion_patch, motion_of


def half_moving():
    """Frames of 16×64 pixels: the left half is still, the right one flickers by 51 levels."""
    clip = torch.zeros(4, 1, 16, 64, dtype=torch.uint8)
    clip[1::2, ..., 32:] = 51
    return clip


def test_motion_is_the_root_mean_square_of_differences():
    assert motion_of(half_moving()) == pytest.approx(0.2 / 2**0.5)
    assert motion_of(half_moving()[..., 32:]) == pytest.approx(0.2)


def test_patches_have_the_motion_that_is_asked_for():
    random = np.random.default_rng(0)
    found = [
        motion_of(draw_motion_patch(half_moving(), 8, min_motion=0.15, random=random))
        for _ in range(50)
    ]
    # A place out of 57 moves enough with probability 28/57: ten misses have one of 10⁻³.
    assert sum(motion >= 0.15 for motion in found) >= 48
    plain = [motion_of(draw_motion_patch(half_moving(), 8, random=random)) for _ in range(50)]
    assert any(motion == 0 for motion in plain)


def test_where_nothing_moves_so_much_the_most_is_taken():
    clip = half_moving()
    clip[..., 40:] = 0  # but a strip of 8 columns
    random = np.random.default_rng(1)
    found = [
        motion_of(draw_motion_patch(clip, 16, min_motion=0.9, random=random)) for _ in range(20)
    ]
    plain = [motion_of(draw_motion_patch(clip, 16, random=random)) for _ in range(20)]
    assert np.mean(found) > np.mean(plain)


def test_a_patch_of_the_whole_frame_is_the_clip():
    clip = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    random = np.random.default_rng(0)
    assert torch.equal(draw_motion_patch(clip, 8, min_motion=0.5, random=random), clip)


@pytest.mark.parametrize("size", [0, 17])
def test_bad_input(size):
    with pytest.raises(ValueError, match=f"size is {size}; expected 1 to 16, the shorter side"):
        draw_motion_patch(half_moving(), size, random=np.random.default_rng(0))
