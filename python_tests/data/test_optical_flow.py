"""Optical flow against motions that are known, and its colours against the benchmark's program."""

import math

import pytest
import torch

from gencore.data import MovingShapes, flow_to_image, optical_flow, to_float
from gencore.ops import warp

pytest.importorskip("skimage")


def pattern(height, width, right=0.0, down=0.0):
    """Smooth levels in [0, 1] that have moved by (right, down)."""
    row = torch.arange(height).view(-1, 1) - down
    column = torch.arange(width) - right
    waves = (0.5 * column + 0.2 * row).sin() + (0.3 * column - 0.6 * row).sin()
    return (0.5 + 0.25 * waves)[None, None].float()


@pytest.mark.parametrize(("right", "down"), [(1.5, 0.0), (0.0, -0.8), (-1.0, 2.0)])
def test_a_shift_is_found_with_its_axes_and_signs(right, down):
    first, second = pattern(40, 56), pattern(40, 56, right, down)
    flow = optical_flow(first, second)
    assert flow.dtype == torch.float32
    inner = flow[0, :, 6:-6, 6:-6]
    expected = torch.tensor([right, down]).view(2, 1, 1)
    assert (inner - expected).norm(dim=0).mean() < 0.15
    back = warp(second, flow, padding="border")
    assert (back - first).abs().mean() < 0.2 * (second - first).abs().mean()


def test_moving_shapes_whose_motion_is_known():
    clips = MovingShapes(clip_length=2, image_size=48, num_clips=6, seed=11)
    pairs = torch.stack(list(clips))
    true, moving = zip(*(clips.motion(index) for index in range(6)), strict=True)
    true_flow, moves = torch.stack(true)[:, 0], torch.stack(moving)[:, 0]
    error = (optical_flow(pairs[:, 0], pairs[:, 1]) - true_flow).norm(dim=1)
    # A flow of zero is off by 1.25 on the shapes on average.
    assert error[moves].mean() < 0.4
    assert error.mean() < 0.2


def test_levels_batches_and_colours_do_not_matter():
    clips = MovingShapes(clip_length=2, image_size=24, num_clips=3)
    first, second = torch.stack(list(clips)).unbind(1)
    flow = optical_flow(first, second)
    torch.testing.assert_close(optical_flow(to_float(first), to_float(second)), flow)
    signed = [to_float(images, low=-1.0) for images in (first, second)]
    torch.testing.assert_close(optical_flow(*signed, data_range=2.0), flow, atol=1e-3, rtol=1e-3)
    assert torch.equal(optical_flow(first[1:2], second[1:2])[0], flow[1])
    grey = to_float(first).mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, True)
    assert optical_flow(grey, grey).abs().max() == 0
    assert optical_flow(first[:0], first[:0]).shape == (0, 2, 24, 24)


def test_single_pixels_do_not_stand_out():
    from gencore.data.video.optical_flow import _median

    flow = torch.randn(2, 2, 7, 9).clamp(-1, 1)
    flow[0, 1, 3, 4] = 100.0
    smooth = _median(flow)
    assert smooth.abs().max() <= 1
    assert smooth[1, 0, 3, 4] == flow[1, 0, 1:6, 2:7].flatten().median()


def test_the_colours_of_the_benchmark():
    # The program's own hues, in their order: right is red, then over yellow (down) to the left.
    angle = torch.tensor([0.0, 90.0, 180.0, 270.0]).deg2rad().double()
    flow = torch.stack([angle.cos(), angle.sin()]).round().view(1, 2, 1, 4)
    colours = flow_to_image(flow)[0, :, 0].T.tolist()
    # Entries 0, 13.5, 27 and 40.5 of 54.
    assert colours[0] == [255, 0, 0]
    assert colours[1] == [255, 229, 0]
    assert colours[2] == [0, 209, 255]
    assert colours[3] == [88, 0, 255]


@pytest.mark.parametrize("max_flow", [None, 3.0])
def test_paleness_is_one_minus_the_length(max_flow):
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(2, 2, 40, 40, generator=generator, dtype=torch.float64)
    flow[1] *= 7
    length = flow.norm(dim=1)
    relative = length / (3.0 if max_flow else length.amax((1, 2), keepdim=True))
    levels = flow_to_image(flow, max_flow=max_flow).amin(1)
    shown = relative <= 1
    expected = (255 * (1 - relative)).floor()
    assert (levels[shown] - expected[shown]).abs().max() <= 1  # but for rounding at whole levels
    assert (levels[~shown] == 0).all()
    assert shown.all() == (max_flow is None)
    assert (flow_to_image(torch.zeros(1, 2, 3, 3)) == 255).all()


def test_the_sign_of_a_zero_changes_no_colour():
    right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    negated = -torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1)
    assert torch.equal(flow_to_image(right), flow_to_image(negated))


def test_bad_images():
    x = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"first has shape \(1, 3, 16, 16\) and second \(1, 1, "):
        optical_flow(x, x[:, :1])
    with pytest.raises(TypeError, match=r"first is torch\.float32 and second torch\.float64"):
        optical_flow(x, x.double())
    with pytest.raises(ValueError, match="not finite"):
        optical_flow(x, x * math.nan)
    with pytest.raises(ValueError, match="attachment = 0"):
        optical_flow(x, x, attachment=0)
    with pytest.raises(TypeError, match=r"the flow is torch\.int64"):
        flow_to_image(torch.zeros(1, 2, 3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"the shape is \(1, 3, 3, 3\)|flow has shape"):
        flow_to_image(torch.zeros(1, 3, 3, 3))
    with pytest.raises(ValueError, match="max_flow = 0"):
        flow_to_image(torch.zeros(1, 2, 3, 3), max_flow=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_flow_that_is_not_finite_has_no_colour(value):
    flow = torch.zeros(1, 2, 4, 4)
    flow[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match="flow_to_image: a displacement is not finite"):
        flow_to_image(flow)
