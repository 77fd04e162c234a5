"""The baselines of frame prediction: exact where they have to be."""

import pytest
import torch
from torch.nn.functional import grid_sample

from gencore.data import MovingShapes, to_float
from gencore.metrics import evaluate_frame_prediction
from gencore.models import constant_flow, copy_last


def frames(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(right, down, num, height, width, dtype=torch.float32):
    flow = torch.tensor([right, down], dtype=dtype).view(1, 2, 1, 1)
    return flow.repeat(num, 1, height, width)


def test_the_last_frame_is_copied():
    x = frames(2, 3, 1, 5, 6)
    assert torch.equal(copy_last(x, 4), x[:, [2, 2, 2, 2]])


def test_m27_no_flow_is_the_identity_bit_for_bit():
    x = frames(2, 3, 3, 9, 11)
    still = uniform(0, 0, 2, 9, 11)
    assert torch.equal(constant_flow(x, 2, flow=still), x[:, [2, 2]])
    pytest.importorskip("skimage")
    same = x[:, [2, 2, 2]]
    assert torch.equal(constant_flow(same, 3), same)  # the flow of equal frames is zero


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_m27_whole_flows_are_exact_shifts(dtype):
    x = frames(2, 1, 3, 20, 24).to(dtype)
    flow = uniform(3, -2, 2, 20, 24, torch.promote_types(dtype, torch.float32))
    predicted = constant_flow(x, 2, flow=flow)
    assert predicted.dtype == dtype
    last = x[:, -1]
    assert torch.equal(predicted[:, 0, :, :-2, 3:], last[:, :, 2:, :-3])
    assert torch.equal(predicted[:, 1, :, :-4, 6:], last[:, :, 4:, :-6])


def test_m27_is_grid_sample_again_and_again():
    x = frames(2, 1, 3, 13, 17, dtype=torch.float64)
    flow = 4 * frames(2, 2, 13, 17, seed=1, dtype=torch.float64) - 2
    row, column = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) for side in (13, 17)), indexing="ij"
    )

    def sample(images, field):
        places = torch.stack([(column - field[:, 0]) / 8 - 1, (row - field[:, 1]) / 6 - 1], -1)
        return grid_sample(images, places, padding_mode="border", align_corners=True)

    expected, last = [], x[:, -1]
    for _ in range(3):
        last = sample(last, flow)
        expected.append(last)
    found = constant_flow(x, 3, flow=flow)
    torch.testing.assert_close(found, torch.stack(expected, 1))


def test_the_front_of_what_moves_is_cut_off():
    # A bar of 5 columns that moves right by 3: F is known where it is, not where it will be.
    x = torch.zeros(1, 1, 1, 4, 20)
    x[..., 2:7] = 1.0
    flow = torch.zeros(1, 2, 4, 20)
    flow[:, 0, :, 2:7] = 3.0
    predicted = constant_flow(x, 2, flow=flow)[0, :, 0, 0]
    assert [frame.nonzero().flatten().tolist() for frame in predicted] == [[5, 6], []]


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_it_beats_copying_on_steady_motion(low):
    pytest.importorskip("skimage")
    clips = torch.stack(list(MovingShapes(clip_length=4, num_clips=6, split="test", seed=3)))
    scores = [
        evaluate_frame_prediction(
            predictor, [clips], num_given=3, num_frames=1, low=low, max_moving_psnr=None,
            masked="restrict", max_flow=0.6,
        )
        for predictor in (
            copy_last,
            lambda x, num: constant_flow(x, num, data_range=1 - low),
        )
    ]  # fmt: skip
    assert scores[1].full.psnr[0] > scores[0].full.psnr[0] + 3
    assert scores[1].moving.psnr[0] > scores[0].moving.psnr[0] + 4


def test_what_is_refused():
    x = frames(1, 1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"constant_flow: .* with T >= 2"):
        constant_flow(x, 1)
    with pytest.raises(ValueError, match="num_frames is 0"):
        copy_last(x, 0)
    with pytest.raises(TypeError, match=r"frames are torch\.uint8"):
        constant_flow(to_float(torch.zeros(1, 2, 1, 8, 8, dtype=torch.uint8)).byte(), 1)
    with pytest.raises(ValueError, match="flow has shape"):
        constant_flow(x, 1, flow=torch.zeros(1, 2, 8, 9))


def test_a_flow_may_be_of_less_precision_than_the_frames():
    frames = torch.rand(1, 2, 1, 8, 8, dtype=torch.float64)
    flow = torch.ones(1, 2, 8, 8)
    expected = constant_flow(frames, 2, flow=flow.double())
    assert torch.equal(constant_flow(frames, 2, flow=flow), expected)
