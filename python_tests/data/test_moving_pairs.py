"""Pairs of images whose displacement is known: in bounds, and warping makes the second image."""

import math

import pytest
import torch

from gencore.data import (
    Motion,
    affine_fields,
    deformed_pairs,
    difference_of_gaussians,
    flying_pairs,
    move_images,
)
from gencore.data.video.moving_pairs import _blobs, _bounded
from gencore.ops import warp


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(20, 2, 24, 32, generator=seeded(), dtype=torch.float64)


def make(images, kind, **options):
    if kind == "deformed":
        return deformed_pairs(images, **options)
    return flying_pairs(images, images.flip(2, 3), **options)


@pytest.mark.parametrize("kind", ["deformed", "flying"])
class TestPairs:
    def test_displacements_are_within_six(self, images, kind):
        field = make(images, kind, generator=seeded(1)).displacement
        assert field.abs().max() <= 6
        assert field.abs().amax((1, 2, 3)).mean() > 2
        # Neither axis nor sign is preferred: the components' means have a deviation below 6/√20.
        assert (field.mean((0, 2, 3)).abs() < 4 * 3 / math.sqrt(20)).all()

    def test_warping_the_first_image_makes_the_second(self, images, kind):
        pair = make(images, kind, generator=seeded(1))
        warped = warp(pair.first, pair.displacement, padding="border")
        same = pair.visible.expand_as(warped)
        torch.testing.assert_close(warped[same], pair.second[same], atol=1e-12, rtol=0)
        assert 0.4 < pair.visible.double().mean() < 0.99
        if kind == "deformed":
            torch.testing.assert_close(warped, pair.second)

    def test_the_sign_is_that_of_where_a_pixel_comes_from(self, images, kind):
        """The opposite displacement makes another image."""
        pair = make(images, kind, generator=seeded(1))
        opposite = warp(pair.first, -pair.displacement, padding="border")
        error = (opposite - pair.second).square().mean()
        assert error > 0.5 * (pair.first - pair.second).square().mean()

    def test_numbers_decide_all(self, images, kind):
        size = {"deformed": 32, "flying": 17}[kind]
        numbers = torch.rand(20, size, generator=seeded(2), dtype=torch.float64)
        whole = make(images, kind, uniform=numbers)
        part = make(images[5:9], kind, uniform=numbers[5:9])
        for one, other in zip(whole, part, strict=True):
            torch.testing.assert_close(one[5:9], other)
        drawn = [make(images, kind, generator=seeded(s)).displacement for s in (1, 1, 2)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])

    def test_no_displacement_at_all(self, images, kind):
        pair = make(images, kind, max_displacement=0.0)
        torch.testing.assert_close(pair.second, pair.first, atol=1e-12, rtol=0)
        assert pair.displacement.abs().max() == 0
        assert pair.visible.all()

    def test_margins_are_cut_off_all_parts(self, images, kind):
        pair = make(images, kind, generator=seeded(1))
        cut = pair.cropped(3)
        assert [part.shape[-2:] for part in cut] == [(18, 26)] * 4
        assert torch.equal(cut.displacement, pair.displacement[..., 3:-3, 3:-3])

    def test_what_does_not_fit(self, images, kind):
        owner = f"{kind}_pairs"
        with pytest.raises(ValueError, match=rf"{owner}: uniform has shape \[20, 5\]; expected"):
            make(images, kind, uniform=torch.zeros(20, 5))
        with pytest.raises(ValueError, match=rf"{owner}: images are torch\.uint8 \[20, 2"):
            make((255 * images).byte(), kind)
        with pytest.raises(ValueError, match=f"{owner}: max_displacement is -1"):
            make(images, kind, max_displacement=-1)


def test_objects_have_another_shape(images):
    with pytest.raises(ValueError, match=r"objects have shape \[20, 2, 24, 16\]"):
        flying_pairs(images, images[..., :16])


def test_an_object_moves_and_hides():
    """White on black: where it comes to, and what is behind it then is not told."""
    dark, bright = torch.zeros(50, 1, 32, 32), torch.ones(50, 1, 32, 32)
    pair = flying_pairs(dark, bright, generator=seeded(3), max_displacement=4.0)
    covered = pair.first.mean((1, 2, 3))
    assert (covered > 0.01).all()
    assert (covered < 0.5).all()
    uncovered = (pair.first == 1) & (pair.second == 0)
    inside = uncovered[..., 8:-8, 8:-8]
    field = pair.displacement[..., 8:-8, 8:-8]
    # Where the background comes from, if the object was not there: visible says that it was.
    seen = warp(pair.first, pair.displacement)[..., 8:-8, 8:-8]
    assert (~pair.visible[..., 8:-8, 8:-8])[inside & (seen == 1)].all()
    assert field.isfinite().all()


class TestAffineFields:
    def motion(self, scale=0.0, angle=0.0, shift=(0.0, 0.0)):
        double = torch.float64
        return Motion(
            torch.tensor([scale], dtype=double),
            torch.tensor([angle], dtype=double),
            torch.tensor([shift], dtype=double),
        )

    def test_corners_in_closed_form(self):
        """Growth by e^s about the middle: a corner c comes from e^−s c; a turn by R(−angle) c."""
        corners = torch.tensor([[-4.0, -3.0], [4.0, -3.0], [-4.0, 3.0], [4.0, 3.0]]).double()

        def at_corners(motion):
            field = affine_fields(motion, 7, 9)[0]
            return field[:, [0, 0, 6, 6], [0, 8, 0, 8]].T

        grown = at_corners(self.motion(scale=0.1))
        torch.testing.assert_close(grown, (math.exp(-0.1) - 1) * corners)
        c, s = math.cos(0.2), math.sin(0.2)
        back = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
        torch.testing.assert_close(at_corners(self.motion(angle=0.2)), corners @ back.T - corners)
        shifted = at_corners(self.motion(shift=(1.5, -2.0)))
        torch.testing.assert_close(shifted, torch.tensor([[-1.5, 2.0]]).double().expand(4, 2))

    def test_the_field_moves_images_as_the_motion_does(self, images):
        motion = self.motion(0.05, 0.1, (1.0, -0.5))
        field = affine_fields(motion, 24, 32)
        moved = move_images(images[:1], motion, 1.0)
        torch.testing.assert_close(warp(images[:1], field, padding="border"), moved)

    def test_bounds_keep_it_affine(self):
        field = affine_fields(self.motion(0.5, 0.5, (9.0, 9.0)), 24, 32)
        bounded = _bounded(field, 6.0)
        assert 5.99 < bounded.abs().max() <= 6
        assert bounded.diff(n=2, dim=3).abs().max() < 1e-12
        ratio = bounded / field
        torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))


def test_a_round_blob_has_the_area_of_its_disc():
    numbers = torch.full((1, 9), 0.5)
    numbers[:, 3::2] = 0  # no waves on the outline
    radius = 100 * (0.12 + 0.07)
    area = _blobs(numbers, 100, 120).sum().item()
    assert area == pytest.approx(math.pi * radius**2, rel=0.03)


class TestBandPass:
    def test_the_gain_of_each_frequency(self):
        """A wave keeps its form; the kernels' transforms tell its size."""
        place = torch.arange(-4.0, 5.0, dtype=torch.float64)
        for cycles in (0, 3, 8, 20):
            omega = 2 * math.pi * cycles / 64
            wave = torch.cos(omega * torch.arange(64, dtype=torch.float64)).expand(1, 1, 64, 64)
            gain = [
                (kernel * torch.cos(omega * place)).sum() / kernel.sum()
                for kernel in (torch.exp(-(place**2) / 2), torch.exp(-(place**2) / 32))
            ]
            passed = difference_of_gaussians(wave.contiguous())
            inner = (0, 0, slice(None), slice(5, -5))
            torch.testing.assert_close(passed[inner], (gain[0] - gain[1]) * wave[inner])

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            (torch.zeros(1, 1, 4, 9), {}, r"images are torch\.float32 \[1, 1, 4, 9\]"),
            (torch.zeros(1, 1, 9, 9).byte(), {}, r"images are torch\.uint8"),
            (torch.zeros(1, 1, 9, 9), {"fine": 4.0}, "fine is 4.0 and coarse 4.0"),
        ],
    )
    def test_what_does_not_fit(self, images, options, message):
        with pytest.raises(ValueError, match=f"difference_of_gaussians: {message}"):
            difference_of_gaussians(images, **options)
