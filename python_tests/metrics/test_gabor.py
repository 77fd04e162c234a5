"""Gabor fits find what was planted, and pairs in quadrature are a quarter of a period apart."""

import math

import pytest
import torch

from gencore.metrics import GaborFit, fit_gabor, gabor_images, pair_coherence, pair_phase
from gencore.metrics.neuroscience.gabor import _waves

DOUBLE = torch.float64


def planted(num, *, seed=0, size=16):
    """Gabor functions of which most is in a field, and at least half a period."""
    u = torch.rand(8, num, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    frequency = 0.08 + 0.22 * u[4]
    sigma = ((0.35 + 0.35 * u[i]) / frequency for i in (2, 3))
    return GaborFit(
        0.2 + u[0],
        size / 2 - 2 + 3 * u[1],
        size / 2 - 2 + 3 * u[7],
        *(s.clamp(1.3, size / 4) for s in sigma),
        frequency,
        math.pi * u[5],
        math.pi * (2 * u[6] - 1),
        torch.ones(num, dtype=DOUBLE),
    )


def direct(fit, height, width):
    """The formula of the source, field by field."""
    fields = torch.zeros(len(fit.x), height, width, dtype=DOUBLE)
    for u in range(len(fit.x)):
        for row in range(height):
            for column in range(width):
                theta = fit.orientation[u]
                dx, dy = column - fit.x[u], row - fit.y[u]
                along = dx * math.cos(theta) + dy * math.sin(theta)
                across = -dx * math.sin(theta) + dy * math.cos(theta)
                envelope = math.exp(
                    -((along / (math.sqrt(2) * fit.sigma_x[u])) ** 2)
                    - (across / (math.sqrt(2) * fit.sigma_y[u])) ** 2
                )
                wave = math.cos(2 * math.pi * fit.frequency[u] * along + fit.phase[u])
                fields[u, row, column] = fit.amplitude[u] * envelope * wave
    return fields


def test_the_images_are_the_formula():
    fit = planted(3)
    torch.testing.assert_close(gabor_images(fit, 9, 11), direct(fit, 9, 11))


def test_derivatives():
    p = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    p[:, :2] += 3
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda q: _waves(q[None], (6, 7))[0][0], q) for q in p]
    )
    torch.testing.assert_close(_waves(p, (6, 7))[1], jacobian)


def test_planted_parameters_are_recovered():
    truth = planted(60)
    fit = fit_gabor(gabor_images(truth, 16, 16).float())
    assert (fit.r_squared > 0.999).all()
    assert ((fit.frequency / truth.frequency - 1).abs() < 0.01).all()
    turned = (fit.orientation - truth.orientation + math.pi / 2).remainder(math.pi) - math.pi / 2
    assert (turned.abs() < math.radians(1)).all()
    assert ((fit.x - truth.x).abs() < 0.05).all()
    assert ((fit.y - truth.y).abs() < 0.05).all()
    for name in ("sigma_x", "sigma_y", "amplitude"):
        assert ((getattr(fit, name) / getattr(truth, name) - 1).abs() < 0.02).all(), name
    # Near 0 and π the orientation may come out on the other side, with the opposite phase.
    sign = torch.where((fit.orientation - truth.orientation).abs() > math.pi / 2, -1, 1)
    assert (1 - torch.cos(fit.phase - sign * truth.phase) < 1e-3).all()
    assert (fit.orientation >= 0).all()
    assert (fit.orientation < math.pi).all()
    torch.testing.assert_close(
        gabor_images(fit, 16, 16), gabor_images(truth, 16, 16), atol=1e-3, rtol=0
    )


def test_noise_leaves_its_share():
    """R² is 1 − noise / signal, but for what 8 of 256 numbers take of the noise."""
    truth = planted(40, seed=1)
    clean = gabor_images(truth, 16, 16)
    clean = clean / clean.std((1, 2), keepdim=True)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    fit = fit_gabor(clean + 0.5 * noise)
    # The mean's standard error: √(2/256) · 0.2 · 0.8 / √40 and the fits' 8/256 · 0.2.
    assert fit.r_squared.mean() == pytest.approx(0.8 + 0.2 * 8 / 256, abs=0.01)


def test_scale_and_devices_of_fields():
    fields = gabor_images(planted(3), 16, 16)
    one, thousand = fit_gabor(fields), fit_gabor(1e3 * fields)
    torch.testing.assert_close(thousand.amplitude, 1e3 * one.amplitude)
    torch.testing.assert_close(thousand.phase, one.phase)
    half = fit_gabor(fields.bfloat16())
    assert half.frequency.dtype == DOUBLE
    assert (half.r_squared > 0.99).all()


def test_a_field_without_anything():
    """It has no variance to explain; a constant has none either."""
    fit = fit_gabor(torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.eye(8)]))
    assert fit.r_squared.isnan().tolist() == [True, True, False]
    assert all(part.isfinite().all() for part in fit[:-1])


def make_fit(**values):
    numbers = dict.fromkeys(GaborFit._fields, 1.0) | values
    return GaborFit(**{name: torch.tensor([value]) for name, value in numbers.items()})


def test_the_bandwidth_is_between_half_amplitudes():
    """The spectrum along the wave is a Gaussian of deviation 1 / 2πσ around f."""
    fit = make_fit(frequency=0.2, sigma_x=2.5)
    deviation = 1 / (2 * math.pi * 2.5)
    half = deviation * math.sqrt(2 * math.log(2))
    assert fit.bandwidth.item() == pytest.approx(math.log2((0.2 + half) / (0.2 - half)), rel=1e-5)
    assert make_fit(frequency=0.02, sigma_x=2.5).bandwidth.isinf().all()


@pytest.mark.parametrize(
    ("phase", "folded"),
    [(0, 0), (3.0, math.pi - 3.0), (-0.4, 0.4), (1.7, math.pi - 1.7), (-1.5, 1.5)],
)
def test_phases_fold_onto_even_and_odd(phase, folded):
    assert make_fit(phase=phase).folded_phase.item() == pytest.approx(folded, abs=1e-6)


def test_the_shape_is_in_periods():
    fit = make_fit(frequency=0.1, sigma_x=3.0, sigma_y=5.0)
    torch.testing.assert_close(fit.shape, torch.tensor([[0.3, 0.5]]))


class TestPairs:
    @pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180])
    def test_planted_differences_of_phase(self, degrees):
        first = planted(20)._replace(orientation=torch.linspace(0, 3.1, 20, dtype=DOUBLE))
        second = first._replace(phase=first.phase + math.radians(degrees))
        pairs = torch.stack([gabor_images(f, 16, 16) for f in (first, second)], 1)
        narrow = first.bandwidth < 2  # of wide ones the negative frequencies overlap
        assert narrow.sum() >= 10
        found = pair_phase(pairs).rad2deg()[narrow]
        assert (found - degrees).abs().mean() < 4
        assert (pair_coherence(pairs)[narrow] > 0.97).all()

    def test_unrelated_fields(self):
        """Any difference is as likely as any other."""
        pairs = torch.randn(400, 2, 12, 12, generator=torch.Generator().manual_seed(0))
        phase = pair_phase(pairs).rad2deg()
        # A mean over 400 of a deviation of 180/√12.
        assert phase.mean().item() == pytest.approx(90, abs=4 * 52 / 20)
        assert phase.std().item() == pytest.approx(180 / math.sqrt(12), rel=0.15)
        assert pair_coherence(pairs).mean() < 0.3

    def test_a_swap_changes_nothing(self):
        pairs = torch.randn(10, 2, 8, 9, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        torch.testing.assert_close(pair_phase(pairs.flip(1)), pair_phase(pairs))
        torch.testing.assert_close(pair_phase(3 * pairs), pair_phase(pairs))


@pytest.mark.parametrize("measure", [pair_phase, pair_coherence])
def test_pairs_that_are_none(measure):
    with pytest.raises(ValueError, match=rf"{measure.__name__}: pairs have shape \[4, 8, 8\]"):
        measure(torch.zeros(4, 8, 8))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (torch.zeros(8, 8), ValueError, r"fields have shape \[8, 8\]; expected \[U, H, W\]"),
        (torch.zeros(0, 8, 8), ValueError, r"fields have shape \[0, 8, 8\]"),
        (torch.zeros(2, 3, 8), ValueError, r"fields have shape \[2, 3, 8\]"),
        (torch.zeros(2, 8, 8, dtype=torch.int64), TypeError, r"fields is torch\.int64"),
        (torch.full((1, 8, 8), math.nan), ValueError, "a field is not finite"),
    ],
)
def test_fields_that_are_none(fields, error, message):
    with pytest.raises(error, match=f"fit_gabor: {message}"):
        fit_gabor(fields)
