"""Made motions: steady similarities that form a group, and smooth fields that stay in bounds."""

import math

import pytest
import torch

from gencore.data.video.affine_triplets import Motion, draw_motions, make_triplets, move_images
from gencore.data.video.deformations import _basis, draw_deformations
from gencore.ops import warp


@pytest.fixture
def images():
    return torch.rand(3, 2, 12, 17, generator=torch.Generator().manual_seed(0))


def smooth_images(size=64):
    """Two bumps on zero, far from the border and wide beside a pixel."""
    row, column = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")

    def bump(r, c):
        return torch.exp(-((row - r) ** 2 + (column - c) ** 2) / 50)

    return (bump(28, 36) + 0.5 * bump(38, 28))[None, None]


def motion(log_scale=0.0, angle=0.0, shift=(0.0, 0.0), num=1):
    double = torch.float64
    return Motion(
        torch.full((num,), log_scale, dtype=double),
        torch.full((num,), angle, dtype=double),
        torch.tensor([shift] * num, dtype=double),
    )


class TestMotions:
    def test_nothing_moves_at_time_zero(self, images):
        moved = move_images(images, draw_motions(3, max_shift=5.0), 0.0)
        assert torch.equal(moved, images)

    def test_translations_by_whole_pixels_are_exact(self, images):
        shift = Motion(torch.zeros(3), torch.zeros(3), torch.tensor([[-6.0, 3.0]] * 3))
        third, two_thirds, whole = make_triplets(images, shift).unbind(1)
        assert torch.equal(whole[:, :, 3:, :-6], images[:, :, :-3, 6:])
        for part, down, left in ((third, 1, 2), (two_thirds, 2, 4)):
            # 1/3 · 3 is 1 but for rounding.
            torch.testing.assert_close(part[:, :, down:, :-left], images[:, :, :-down, left:])

    def test_quarter_turns_are_those_of_the_pixel_grid(self, images):
        square = images[..., :12]
        turned = move_images(square.double(), motion(angle=math.pi / 2, num=3), 1.0)
        torch.testing.assert_close(turned, square.double().rot90(-1, (2, 3)))  # clockwise

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_motions_are_a_group(self, dtype):
        drawn = draw_motions(50, max_shift=5.0, generator=torch.Generator().manual_seed(1))
        still = Motion(torch.zeros(1), torch.zeros(1), torch.tensor([[1.0, 2.0]]))
        steps = Motion(*(torch.cat(parts).to(dtype) for parts in zip(drawn, still, strict=True)))
        (first, first_shift), (second, second_shift), (both, both_shift) = (
            steps.at(tau) for tau in (0.3, 0.9, 1.2)
        )
        torch.testing.assert_close(second @ first, both)
        moved = torch.einsum("nij,nj->ni", second, first_shift) + second_shift
        torch.testing.assert_close(moved, both_shift, rtol=1e-5, atol=1e-5)
        identity, nothing = steps.at(0.0)
        assert torch.equal(identity, torch.eye(2, dtype=dtype).expand(51, 2, 2))
        assert torch.equal(nothing, torch.zeros(51, 2, dtype=dtype))

    def test_a_slow_turn_keeps_its_shift(self):
        # (e^{λτ} − 1)/λ is τ(1 + λτ/2 + …); in float32 the difference itself would lose it.
        slow = Motion(torch.tensor([1e-6]), torch.tensor([1e-6]), torch.tensor([[3.0, 4.0]]))
        torch.testing.assert_close(slow.at(1.0)[1], torch.tensor([[3.0, 4.0]]), rtol=1e-5, atol=0)

    def test_the_motion_obeys_its_equation(self):
        one = motion(0.2, -0.7, (1.5, -2.0))
        start = torch.tensor([4.0, -3.0], dtype=torch.float64)

        def place(tau):
            matrix, shift = one.at(tau)
            return matrix[0] @ start + shift[0]

        step = 1e-5
        speed = (place(0.6 + step) - place(0.6 - step)) / (2 * step)
        column, row = place(0.6)
        # dz/dτ = λ z + v with z = column + i·row.
        expected = complex(0.2, -0.7) * complex(column, row) + complex(1.5, -2.0)
        torch.testing.assert_close(speed, torch.tensor([expected.real, expected.imag]).double())

    def test_images_compose(self):
        # Two bilinear samplings of a smooth image differ from one by their errors, h²·|x″|/8 each.
        x, move = smooth_images(), motion(0.1, 0.4, (2.0, -3.0))
        twice = move_images(move_images(x, move, 0.4), move, 0.6)
        once = move_images(x, move, 1.0)
        curvature = 1.0 / 25  # |x″| of the higher bump at its top, along each axis
        assert (twice - once).abs().max() < 3 * 2 * curvature / 8
        assert (once - x).abs().max() > 0.3

    def test_draws_fill_their_bounds(self):
        drawn = draw_motions(
            4000,
            max_shift=3.0,
            max_angle=0.5,
            max_scale=2.0,
            generator=torch.Generator().manual_seed(0),
        )
        for values, bound in (
            (drawn.log_scale, math.log(2)),
            (drawn.angle, 0.5),
            (drawn.velocity, 3.0),
        ):
            assert 0.99 * bound < values.abs().max() <= bound
            # The standard error of the mean of a uniform variable, five times.
            assert values.mean().abs() < 5 * bound / math.sqrt(3 * values.numel())

    def test_bad_options(self, images):
        with pytest.raises(ValueError, match=r"draw_motions: .*max_scale = 0\.5"):
            draw_motions(2, max_shift=1.0, max_scale=0.5)
        with pytest.raises(ValueError, match="move_images: 2 motions for 3 images"):
            move_images(images, draw_motions(2, max_shift=1.0), 1.0)


class TestDeformations:
    @pytest.mark.parametrize("grid", [4, 7])
    def test_fields_stay_in_bounds_and_are_smooth(self, grid):
        generator = torch.Generator().manual_seed(0)
        field = draw_deformations(200, 64, 48, grid=grid, generator=generator)
        assert field.abs().max() <= 6
        assert field.abs().max() > 2
        # The slope of a B-spline is at most the greatest difference of its control points.
        steepest = 12 * (grid - 3) / 47
        assert field.diff(dim=3).abs().max() <= steepest

    def test_weights_of_control_points(self):
        # They sum to one, so that equal control points give a constant field.
        basis = _basis(33, 6)
        torch.testing.assert_close(basis.sum(1), torch.ones(33, dtype=torch.float64))
        assert (basis >= 0).all()
        # A cubic B-spline reproduces straight lines.
        line = basis @ torch.arange(6.0, dtype=torch.float64)
        torch.testing.assert_close(line, torch.linspace(1, 4, 33, dtype=torch.float64))

    def test_the_field_carries_the_first_image_to_the_second(self):
        x = smooth_images()
        field = draw_deformations(1, 64, 64, generator=torch.Generator().manual_seed(3)).double()
        second = warp(x, field, padding="border")
        # At each pixel the second image is the analytic first at p + δ(p).
        row, column = torch.meshgrid(*[torch.arange(64.0).double()] * 2, indexing="ij")
        r, c = row + field[0, 1], column + field[0, 0]
        exact = torch.exp(-((r - 28) ** 2 + (c - 36) ** 2) / 50)
        exact += 0.5 * torch.exp(-((r - 38) ** 2 + (c - 28) ** 2) / 50)
        assert (second[0, 0] - exact).abs().max() < 2 / 25 / 8 * 1.5  # the bilinear error
        # The field is not a little noise: without it, or turned round, the images differ more.
        error = (second - warp(x, -field, padding="border")).abs().max()
        assert error > 10 * (second[0, 0] - exact).abs().max()

    def test_bad_options(self):
        with pytest.raises(ValueError, match=r"draw_deformations: .*grid = 3"):
            draw_deformations(1, 8, 8, grid=3)
