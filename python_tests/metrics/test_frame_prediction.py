"""Moving areas, and scores of predicted frames that are known by hand."""

import math

import pytest
import torch

from gencore.data import MovingShapes, to_float
from gencore.metrics import (
    clip_moving_areas,
    evaluate_frame_prediction,
    moving_area,
    psnr,
    sharpness_difference,
    ssim,
)

pytest.importorskip("skimage")


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moving_patch(num=2, length=6, side=24):
    """Clips in which a patch of noise goes right by one pixel a frame, over grey; and its mask."""
    clips = torch.full((num, length, 1, side, side), 0.5)
    known = torch.zeros(num, length, side, side, dtype=torch.bool)
    patch = noise(num, 1, 10, 9).float()
    for t in range(length):
        clips[:, t, :, 7:17, 4 + t : 13 + t] = patch
        known[:, t, 7:17, 4 + t : 13 + t] = True
    return clips, known


class TestMovingArea:
    def test_m26_pixels_above_four_fifths_of_the_longest(self):
        flow = torch.randn(3, 2, 30, 30, generator=torch.Generator().manual_seed(1))
        flow[2] *= 100
        length = flow.norm(dim=1)
        assert torch.equal(moving_area(flow), length > 0.8 * length.amax((1, 2), keepdim=True))
        assert torch.equal(moving_area(flow, max_flow=1.5), length > 1.2)
        assert torch.equal(moving_area(flow, threshold=0.4, max_flow=1.0), length > 0.6)
        printed = moving_area(flow, reading="printed")
        assert torch.equal(printed, ~moving_area(flow))

    def test_m26_blank_psnr_is_restricted_psnr_and_the_fraction(self):
        flow = torch.randn(4, 2, 20, 25, generator=torch.Generator().manual_seed(2))
        mask = moving_area(flow, max_flow=1.0)
        x, y = noise(4, 3, 20, 25), noise(4, 3, 20, 25, seed=1)
        fraction = mask.double().mean((1, 2))
        blank, restricted = psnr(x, y, mask=mask, masked="blank"), psnr(x, y, mask=mask)
        torch.testing.assert_close(blank, restricted - 10 * fraction.log10(), rtol=0, atol=1e-12)

    def test_nothing_moves(self):
        still = torch.zeros(1, 2, 5, 5)
        assert not moving_area(still).any()
        assert moving_area(still, reading="printed").all()

    def test_bad_options(self):
        with pytest.raises(ValueError, match="threshold = 0"):
            moving_area(torch.zeros(1, 2, 3, 3), threshold=0)
        with pytest.raises(ValueError, match="reading is 'thesis'"):
            moving_area(torch.zeros(1, 2, 3, 3), reading="thesis")


class TestEvaluation:
    def test_constant_errors_have_known_psnr(self):
        clips = noise(3, 7, 3, 16, 16)

        def predict(frames, num_frames):
            assert torch.equal(frames, clips[:, :4])
            later = clips[:, 4 : 4 + num_frames].clone()
            for frame in range(num_frames):
                later[:, frame] += 0.1 / 2**frame
            return later

        scores = evaluate_frame_prediction(predict, [clips], num_frames=3)
        expected = 20 + 20 * math.log10(2) * torch.arange(3)
        torch.testing.assert_close(scores.full.psnr, expected.double())
        # Equal gradients but for the rounding of the sum.
        assert (scores.full.sharpness > 100).all()
        assert scores.full.num_clips.tolist() == [3, 3, 3]

    @pytest.mark.parametrize("masked", ["blank", "restrict"])
    def test_columns_are_the_means_of_the_measures(self, masked):
        clips, known = moving_patch(5)
        predictions = noise(5, 2, 1, 24, 24, seed=3).float()
        batches = [(clips[:2], known[:2]), (clips[2:], known[2:])]
        parts = iter(predictions.split([2, 3]))
        scores = evaluate_frame_prediction(lambda frames, num: next(parts), batches, masked=masked)
        assert set(scores.columns()) == {
            f"{area}{name}_{frame}"
            for area in ("", "moving_")
            for name in ("psnr", "ssim", "sharpness")
            for frame in (1, 2)
        }
        measures = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness_difference}
        for name, measure in measures.items():
            for frame in range(2):
                x, y = predictions[:, frame], clips[:, 4 + frame]
                found = scores.columns()
                assert found[f"{name}_{frame + 1}"] == pytest.approx(measure(x, y).mean().item())
                inside = measure(x, y, mask=known[:, 3 + frame], masked=masked).mean().item()
                assert found[f"moving_{name}_{frame + 1}"] == pytest.approx(inside)
        assert scores.moving_fraction.tolist() == pytest.approx([90 / 576] * 2)

    def test_blanking_adds_what_the_moving_fraction_says(self):
        clips, known = moving_patch(1)
        found = [
            evaluate_frame_prediction(
                lambda frames, num: frames[:, -1:].repeat(1, num, 1, 1, 1),
                [(clips, known)],
                masked=masked,
                max_moving_psnr=None,
            )
            for masked in ("blank", "restrict")
        ]
        added = found[0].moving.psnr - found[1].moving.psnr
        torch.testing.assert_close(added, -10 * found[0].moving_fraction.log10())

    def test_nearly_perfect_clips_are_left_out(self):
        clips, known = moving_patch(3)
        error = torch.tensor([1e-4, 0.01, 0.1]).view(3, 1, 1, 1, 1)

        def predict(frames, num_frames):
            return clips[:, 4 : 4 + num_frames] + error

        fraction = 10 * math.log10(576 / 90)
        scores = evaluate_frame_prediction(predict, [(clips, known)])
        # 80 dB, 40 dB and 20 dB, and the fraction.
        assert scores.moving.num_clips.tolist() == [2, 2]
        assert scores.moving.psnr.tolist() == pytest.approx([30 + fraction] * 2, abs=1e-3)
        assert scores.full.num_clips.tolist() == [3, 3]
        every = evaluate_frame_prediction(predict, [(clips, known)], max_moving_psnr=None)
        assert every.moving.psnr.tolist() == pytest.approx([140 / 3 + fraction] * 2, abs=1e-2)

    def test_clips_in_which_nothing_moves(self):
        still = noise(2, 1, 1, 16, 16).repeat(1, 6, 1, 1, 1)
        scores = evaluate_frame_prediction(lambda x, num: x[:, -num:] + 0.1, [still])
        assert scores.moving.num_clips.tolist() == [0, 0]
        assert scores.moving.psnr.isnan().all()
        assert scores.moving_fraction.tolist() == [0, 0]
        assert scores.full.psnr.tolist() == pytest.approx([20, 20])

    def test_the_flow_finds_what_moves(self):
        clips, known = moving_patch(2, side=32)
        seen = {}
        for name, batch in (("flow", clips), ("known", (clips, known))):
            seen[name] = evaluate_frame_prediction(
                lambda frames, num: frames[:, -1:].repeat(1, num, 1, 1, 1),
                [batch],
                masked="restrict",
                max_flow=0.8,
            )
        # Copying fails where it moves, and nowhere else.
        assert seen["flow"].full.psnr[0] - seen["flow"].moving.psnr[0] > 6
        torch.testing.assert_close(
            seen["flow"].moving.psnr, seen["known"].moving.psnr, atol=2.0, rtol=0
        )

    def test_areas_are_found_once_for_several_predictors(self):
        clips = torch.stack(list(MovingShapes(clip_length=6, image_size=24, num_clips=3)))

        def predict(frames, num_frames):
            return frames[:, -num_frames:]

        areas = clip_moving_areas(clips)
        assert areas.shape == (3, 6, 24, 24)
        assert areas[:, :5].flatten(2).any(2).all()
        assert not areas[:, 5].any()
        own, given = (
            evaluate_frame_prediction(predict, [item]) for item in (clips, (clips, areas))
        )
        assert own.columns() == given.columns()

    def test_the_predictors_own_scale(self):
        clips = torch.stack(list(MovingShapes(clip_length=6, image_size=16, num_clips=2)))

        def predict(frames, num_frames):
            torch.testing.assert_close(frames, to_float(clips[:, :4], low=-1.0))
            return to_float(clips[:, 4:], low=-1.0) + 0.2

        scores = evaluate_frame_prediction(predict, [clips], low=-1.0)
        assert scores.full.psnr.tolist() == pytest.approx([20, 20], abs=1e-4)

    def test_what_is_refused(self):
        clips, known = moving_patch()

        def run(batches, predictor=lambda x, num: x[:, :num], **options):
            evaluate_frame_prediction(predictor, batches, **options)

        with pytest.raises(ValueError, match="there are no clips"):
            run([])
        with pytest.raises(ValueError, match="with T >= 9"):
            run([clips], num_given=7)
        with pytest.raises(ValueError, match=r"the predictor gave shape \(2, 1, 1, 24, 24\), exp"):
            run([clips], lambda x, num: x[:, :1])
        with pytest.raises(TypeError, match=r"the predictor gave torch\.uint8"):
            run([clips], lambda x, num: x[:, :num].byte())
        with pytest.raises(ValueError, match=r"what moves is torch\.bool of shape \(2, 5, 24, 24"):
            run([(clips, known[:, 1:])])
        with pytest.raises(TypeError, match=r"clips are torch\.int64"):
            run([clips.long()])
        with pytest.raises(ValueError, match=r"low = 1\.0 and high = 1\.0"):
            run([clips], low=1.0)

    def test_a_prediction_that_is_not_a_number_counts(self):
        clips, known = moving_patch()

        def predict(frames, num_frames):
            predicted = frames[:, -1:].repeat(1, num_frames, 1, 1, 1)
            predicted[0] = math.nan
            return predicted

        scores = evaluate_frame_prediction(predict, [(clips, known)])
        assert scores.moving.num_clips.tolist() == [2, 2]
        assert scores.moving.psnr.isnan().all()
        assert scores.full.psnr.isnan().all()
