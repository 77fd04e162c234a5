"""Grid scores of maps that are known: hexagons, squares, stripes, noise."""

import math

import pytest
import torch

from gencore.data import PlaceLattice
from gencore.metrics import autocorrelogram, grid_scores, null_grid_rate
from gencore.models import HexagonCode

SIZE, PIXEL = 40, 1 / 39


def waves(angles, wavelength, phases=None):
    """A sum of plane waves whose directions are these, [1, S, S]."""
    x = PlaceLattice(SIZE).positions()
    phases = phases or [0.4] * len(angles)
    total = torch.zeros(len(x))
    for angle, phase in zip(angles, phases, strict=True):
        along = x @ torch.tensor([math.cos(angle), math.sin(angle)])
        total += (2 * math.pi * along / wavelength + phase).cos()
    return total.view(1, SIZE, SIZE)


def hexagons(spacing, orientation=0.0):
    code = HexagonCode(PlaceLattice(SIZE), [spacing], [orientation])
    return code.code[:, 0, :3].mT.reshape(3, SIZE, SIZE)


def smooth_noise(num, width=1.5, seed=0):
    noise = torch.randn(num, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    frequency = torch.fft.fftfreq(SIZE)
    low = (-2 * (math.pi * width) ** 2 * frequency.square()).exp()
    return torch.fft.ifft2(torch.fft.fft2(noise) * low[:, None] * low).real


class TestAutocorrelogram:
    def test_it_is_pearsons_correlation_of_what_overlaps(self):
        """Against numpy's correlation of the parts of two maps, shift after shift."""
        generator = torch.Generator().manual_seed(0)
        maps = 5 + torch.rand(2, 9, 7, dtype=torch.float64, generator=generator)
        r = autocorrelogram(maps, min_overlap=6)
        assert r.shape == (2, 17, 13)
        for down, right in ((0, 0), (3, -2), (-4, 1), (0, 5), (6, 3)):
            here = maps[1, max(down, 0) : 9 + min(down, 0), max(right, 0) : 7 + min(right, 0)]
            there = maps[1, max(-down, 0) : 9 - max(down, 0), max(-right, 0) : 7 - max(right, 0)]
            found = r[1, 8 + down, 6 + right]
            expected = torch.corrcoef(torch.stack([here.flatten(), there.flatten()]))[0, 1]
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(r, r.flip(1, 2), equal_nan=True)

    def test_parts_that_are_too_small_or_constant_have_none(self):
        maps = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
        known = autocorrelogram(maps, min_overlap=16).isfinite()
        assert known[0, 7, 7]
        assert not known[0, 0, 0]
        assert known.sum() == sum(
            (8 - abs(i)) * (8 - abs(j)) >= 16 for i in range(-7, 8) for j in range(-7, 8)
        )
        assert autocorrelogram(torch.full((1, 8, 8), 0.3)).isnan().all()

    def test_scale_and_level_do_not_matter(self):
        maps = torch.rand(1, 12, 12, dtype=torch.float64)
        torch.testing.assert_close(
            autocorrelogram(maps), autocorrelogram(1e6 * maps - 3e6), equal_nan=True
        )


class TestScores:
    @pytest.mark.parametrize("spacing", [0.2, 0.3, 0.45, 0.6])
    def test_g35_hexagons(self, spacing):
        scores = grid_scores(hexagons(spacing, 0.2), PIXEL)
        assert (scores.gridness > 1.3).all()
        torch.testing.assert_close(scores.spacing, torch.full((3,), spacing), rtol=0, atol=PIXEL)
        # Fields lie π/6 off the waves; angles are alike modulo π/3.
        off = (scores.orientation - (0.2 + math.pi / 6)) % (math.pi / 3)
        assert torch.minimum(off, math.pi / 3 - off).max() < math.radians(2)

    @pytest.mark.parametrize("wavelength", [0.2, 0.3])
    def test_g35_squares(self, wavelength):
        gridness = grid_scores(waves([0.1, 0.1 + math.pi / 2], wavelength), PIXEL).gridness
        assert gridness < -0.9

    @pytest.mark.parametrize("angle", [0.0, 0.3, 1.2])
    def test_g35_stripes(self, angle):
        gridness = grid_scores(waves([angle], 0.3), PIXEL).gridness
        assert gridness < 0.2

    def test_signs_and_levels_do_not_matter(self):
        maps = hexagons(0.35)
        for changed in (2 - 3 * maps, 10 * maps):
            torch.testing.assert_close(
                grid_scores(changed, PIXEL).gridness, grid_scores(maps, PIXEL).gridness,
                rtol=1e-3, atol=1e-3,
            )  # fmt: skip

    def test_maps_without_rings_have_no_score(self):
        x = PlaceLattice(SIZE).positions()[:, 0].view(1, SIZE, SIZE)
        scores = grid_scores(torch.cat([x, torch.full_like(x, 0.5), hexagons(0.3)]), PIXEL)
        assert scores.gridness.isnan().tolist() == [True, True, False, False, False]
        assert scores.spacing.isnan().tolist() == [True, True, False, False, False]

    def test_no_maps(self):
        assert grid_scores(torch.zeros(0, 10, 10), 0.1).gridness.shape == (0,)

    def test_doubles(self):
        assert grid_scores(hexagons(0.3).double(), PIXEL).gridness.dtype == torch.float64


class TestNull:
    def test_g35_noise_passes_at_times(self):
        """So a share of grid cells says little without the rate of maps without structure."""
        gridness = grid_scores(smooth_noise(200), PIXEL).gridness
        passed = (gridness >= 0.37).double().mean().item()
        assert 0.05 < passed < 0.35
        rate = null_grid_rate(
            smooth_noise(100, seed=1), PIXEL, num=200, generator=torch.Generator().manual_seed(2)
        )
        # Surrogates of noise are such noise, but periodic: within the error of both rates.
        assert rate == pytest.approx(passed, abs=4 * math.sqrt(2 * 0.18 * 0.82 / 200))

    def test_surrogates_of_hexagons_lose_their_symmetry(self):
        maps = torch.cat([hexagons(spacing) for spacing in (0.25, 0.35, 0.45)])
        assert (grid_scores(maps, PIXEL).gridness >= 0.37).all()
        generator = torch.Generator().manual_seed(0)
        assert null_grid_rate(maps, PIXEL, num=100, generator=generator) < 0.5

    def test_generators_govern(self):
        maps = smooth_noise(5)
        rates = [
            null_grid_rate(maps, PIXEL, num=30, generator=torch.Generator().manual_seed(n))
            for n in (3, 3)
        ]
        assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autocorrelogram(torch.zeros(3, 4)), r"autocorrelogram: maps have shape \[3, 4\]"),
        (lambda: grid_scores(torch.zeros(2, 8, 9), 0.1), r"grid_scores: maps have shape"),
        (lambda: grid_scores(torch.zeros(2, 7, 7), 0.1), r"with S ≥ 8"),
        (lambda: grid_scores(torch.zeros(2, 8, 8), 0.0), "pixel is 0.0; expected a positive"),
        (lambda: null_grid_rate(torch.zeros(0, 8, 8), 0.1), "null_grid_rate: maps is 0"),
        (lambda: null_grid_rate(torch.zeros(1, 8, 8), 0.1, num=0), "null_grid_rate: num is 0"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
