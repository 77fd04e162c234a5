"""PSNR, SSIM and sharpness: identities, masks, and scikit-image."""

import math

import pytest
import torch
from torch import Tensor

from gencore.metrics import psnr, sharpness_difference, ssim

MEASURES = [psnr, ssim, sharpness_difference]


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def constant(value: float, size: int = 16) -> Tensor:
    return torch.full((1, 1, size, size), value, dtype=torch.float64)


def test_m25_psnr_ssim_and_sharpness():
    """An error of 0.1 is 20 dB; SSIM(y, y) = 1; the thesis' and the released sharpness differ."""
    y = images(2, 3, 20, 20)
    assert psnr(y + 0.1, y).tolist() == pytest.approx([20, 20], rel=1e-12)
    doubled = psnr(y + 0.2, y) - psnr(y + 0.1, y)
    assert doubled.tolist() == pytest.approx([-20 * math.log10(2)] * 2, rel=1e-9)
    assert ssim(y, y).tolist() == pytest.approx([1, 1], rel=1e-12)
    # Images that differ by a constant have the same gradients.
    assert (sharpness_difference(y.round(), y.round() + 2) == math.inf).all()
    capped = 10 * math.log10(255**2 / 1e-4)
    released = sharpness_difference(y, y + 0.2, variant="released")
    assert released.tolist() == pytest.approx([capped] * 2)

    # A ramp of slope s against a flat image: every gradient differs by s, along one axis.
    ramp = (0.01 * torch.arange(20.0, dtype=torch.float64)).expand(1, 1, 20, 20)
    thesis = sharpness_difference(0 * ramp, ramp)
    assert thesis.item() == pytest.approx(10 * math.log10(1 / 0.01))
    inner = 18**2 / 20**2  # of the pixels are not on the border
    expected = 10 * math.log10(255**2 / (128**2 * 2 * 0.01 * inner))
    released = sharpness_difference(0 * ramp, ramp, variant="released")
    assert released.item() == pytest.approx(expected)


def test_the_two_variants_of_sharpness_cancel_differently():
    """A row's gradient against a column's: equal sums for one, apart for the other."""
    step = 0.1 * torch.arange(8.0, dtype=torch.float64)
    rows, columns = step.view(1, 1, 8, 1).expand(1, 1, 8, 8), step.expand(1, 1, 8, 8)
    assert sharpness_difference(rows, columns).item() > 100
    released = sharpness_difference(rows, columns, variant="released").item()
    expected = 10 * math.log10(255**2 / (128**2 * 2 * 0.2 * 36 / 64))
    assert released == pytest.approx(expected)


def test_sharpness_depends_on_the_scale_and_the_others_do_not():
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    for measure in (psnr, ssim):
        torch.testing.assert_close(measure(255 * x, 255 * y, data_range=255.0), measure(x, y))
    difference = sharpness_difference(255 * x, 255 * y, data_range=255.0)
    difference = difference - sharpness_difference(x, y)
    assert difference.tolist() == pytest.approx([10 * math.log10(255)] * 2)


def test_ssim_of_constant_images_is_known():
    a, b, c1 = 0.7, 0.2, 1e-4
    expected = (2 * a * b + c1) / (a**2 + b**2 + c1)
    assert ssim(constant(a), constant(b)).item() == pytest.approx(expected)


def test_ssim_is_symmetric_and_may_be_negative():
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    torch.testing.assert_close(ssim(x, y), ssim(y, x), rtol=1e-12, atol=0)
    assert (ssim(x, 1 - x) < -0.5).all()


def test_ssim_of_luma_and_of_grey():
    x, y = images(2, 1, 16, 16).expand(2, 3, 16, 16), images(2, 1, 16, 16, seed=1)
    grey = ssim(x[:, :1], y)
    # The weights of the three channels sum to 1.
    torch.testing.assert_close(ssim(x, y.expand(2, 3, 16, 16), channels="luma"), grey)
    torch.testing.assert_close(ssim(x, y.expand(2, 3, 16, 16)), grey)
    green = torch.zeros(2, 3, 16, 16, dtype=torch.float64)
    green[:, 1] = x[:, 1]
    torch.testing.assert_close(
        ssim(green, 0 * green, channels="luma"), ssim(0.587 * x[:, :1], 0 * x[:, :1])
    )


def test_full_padding_sees_zeros_around():
    x, y = images(1, 1, 12, 12), images(1, 1, 12, 12, seed=1)
    around = torch.nn.functional.pad
    framed = ssim(around(x, [10] * 4), around(y, [10] * 4))
    torch.testing.assert_close(ssim(x, y, padding="full"), framed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_against_scikit_image(channels, dtype):
    metrics = pytest.importorskip("skimage.metrics")
    x, y = images(2, channels, 21, 17), images(2, channels, 21, 17, seed=1)
    y = 0.7 * x + 0.3 * y
    if dtype == torch.uint8:
        x, y = (255 * x).to(dtype), (255 * y).to(dtype)
    peak = 255 if dtype == torch.uint8 else 1.0
    for i, (mine, signal) in enumerate(zip(ssim(x, y), psnr(x, y), strict=True)):
        a, b = x[i].numpy(), y[i].numpy()
        theirs = metrics.structural_similarity(
            a,
            b,
            data_range=peak,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert mine.item() == pytest.approx(theirs, rel=1e-9)
        theirs = metrics.peak_signal_noise_ratio(a, b, data_range=peak)
        assert signal.item() == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_full_mask_changes_nothing(measure):
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    mask = torch.ones(16, 16, dtype=torch.bool)
    for masked in ("restrict", "blank"):
        torch.testing.assert_close(measure(x, y, mask=mask, masked=masked), measure(x, y))


@pytest.mark.parametrize("measure", MEASURES)
def test_what_lies_outside_a_mask_does_not_count(measure):
    x, y = images(2, 3, 30, 30), images(2, 3, 30, 30, seed=1)
    mask = torch.zeros(30, 30, dtype=torch.bool)
    mask[:12, 3:14] = True
    # The window of SSIM reaches five pixels further, and gradients reach one.
    far = torch.zeros(30, 30, dtype=torch.bool)
    far[18:, :] = True
    changed = torch.where(far, 1 - x, x)
    for masked in ("restrict", "blank"):
        value = measure(x, y, mask=mask, masked=masked)
        torch.testing.assert_close(measure(changed, y, mask=mask, masked=masked), value)
    assert not torch.allclose(measure(changed, y), measure(x, y))


def test_blanking_adds_the_fraction_to_psnr():
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[0, :4, :8], mask[1, :8] = True, True  # an eighth, and a half
    added = psnr(x, y, mask=mask, masked="blank") - psnr(x, y, mask=mask)
    assert added.tolist() == pytest.approx([10 * math.log10(8), 10 * math.log10(2)])


def test_restriction_to_a_part_is_the_measure_of_the_part():
    x, y = images(1, 3, 16, 16), images(1, 3, 16, 16, seed=1)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[2:9, 4:10] = True
    part = (slice(None), slice(None), slice(2, 9), slice(4, 10))
    torch.testing.assert_close(psnr(x, y, mask=mask), psnr(x[part], y[part]))
    # Gradients that end in the part begin one pixel before it.
    wider = (slice(None), slice(None), slice(1, 9), slice(3, 10))
    torch.testing.assert_close(
        sharpness_difference(x, y, mask=mask), sharpness_difference(x[wider], y[wider])
    )
    # Windows centred in rows 5 and 6, columns 5 to 8 span rows 0 to 11, columns 0 to 13.
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[5:7, 5:9] = True
    torch.testing.assert_close(ssim(x, y, mask=mask), ssim(x[:, :, :12, :14], y[:, :, :12, :14]))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": torch.zeros(1, 1, 16, 15)}, ValueError, r"target \(1, 1, 16, 15\)"),
        ({"target": torch.zeros(1, 1, 16, 16, dtype=torch.uint8)}, TypeError, "one dtype"),
        ({"data_range": 0.0}, ValueError, "data_range = 0"),
        ({"mask": torch.ones(15, 16, dtype=torch.bool)}, ValueError, "mask is"),
        ({"mask": torch.zeros(16, 16, dtype=torch.bool)}, ValueError, "leaves no pixel of image 0"),
        ({"masked": "crop"}, ValueError, "masked is 'crop'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(measure, change, error, message):
    arguments = {"prediction": torch.zeros(1, 1, 16, 16), "target": torch.zeros(1, 1, 16, 16)}
    with pytest.raises(error, match=f"^{measure.__name__}: .*{message}"):
        measure(**{**arguments, **change})


def test_bad_options():
    x = torch.zeros(1, 2, 10, 10)
    with pytest.raises(ValueError, match="at least the window, 11 x 11"):
        ssim(x, x)
    with pytest.raises(ValueError, match="luma of 2 channels"):
        ssim(x, x, channels="luma")
    with pytest.raises(ValueError, match='needs masked="blank"'):
        ssim(x, x, padding="full", mask=torch.ones(10, 10, dtype=torch.bool))
    with pytest.raises(ValueError, match="odd size"):
        ssim(x, x, window_size=4)
    with pytest.raises(ValueError, match="variant is 'code'"):
        sharpness_difference(x, x, variant="code")
    with pytest.raises(ValueError, match="expected at least 3 x 3"):
        sharpness_difference(x[..., :2], x[..., :2], variant="released")
