"""V1's simple cells: tight frames, matrices of motion, and the displacements they infer."""

import math

import pytest
import torch

from gencore.models import (
    RotationMotion,
    SimpleCells,
    TableMotion,
    TaylorMotion,
    TightFrame,
    displacement_lattice,
    fourier_cells,
    motion_costs,
)

DOUBLE = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed), dtype=DOUBLE)


def shifted(x, displacements):
    """Each image by its whole displacement (right, down): what is there comes to where one is."""
    pairs = zip(x, displacements.long().tolist(), strict=True)
    return torch.stack([image.roll((-down, -right), (1, 2)) for image, (right, down) in pairs])


def orthonormal_frame(channels=1, boundary="circular"):
    """Any orthonormal basis of patches, each pixel in four of them."""
    size = 64 * channels
    frame = TightFrame(
        size // 4, 4, patch_size=8, stride=4, channels=channels, boundary=boundary
    ).double()
    basis = torch.linalg.qr(torch.randn(size, size, generator=seeded(), dtype=DOUBLE))[0]
    with torch.no_grad():
        frame.weight.copy_(basis.view_as(frame.weight) / 2)
    return frame


def small_cells(motion=TableMotion, **options):
    torch.manual_seed(3)
    return SimpleCells(TightFrame(12, 2, patch_size=8, stride=4), motion(12, 2, **options)).double()


class TestTightFrame:
    @pytest.mark.parametrize("boundary", ["circular", "zeros"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_isometry_and_perfect_reconstruction(self, boundary, channels):
        frame = orthonormal_frame(channels, boundary)
        x, y = images(2, channels, 16, 24), images(2, channels, 16, 24, seed=1)
        v, w = frame(x), frame(y)
        torch.testing.assert_close(frame.decode(v), x)
        torch.testing.assert_close((v * w).sum(), (x * y).sum())
        torch.testing.assert_close(v.norm(), x.norm())
        torch.testing.assert_close(frame.reconstruction_loss(x), torch.zeros(2, dtype=DOUBLE))

    @pytest.mark.parametrize("boundary", ["circular", "zeros"])
    @pytest.mark.parametrize(("patch_size", "stride"), [(8, 4), (6, 2), (4, 4), (9, 3)])
    def test_decoding_is_the_adjoint(self, boundary, patch_size, stride):
        torch.manual_seed(0)
        frame = TightFrame(8, 2, patch_size=patch_size, stride=stride, boundary=boundary).double()
        x = images(2, 1, 5 * stride, 4 * stride)
        v = frame(x)
        w = torch.randn(v.shape, generator=seeded(1), dtype=DOUBLE)
        torch.testing.assert_close((v * w).sum(), (x * frame.decode(w)).sum())
        assert frame.decode(w).shape == x.shape

    def test_a_vector_is_the_filters_on_its_patch(self):
        """The interior's first patch begins at the image's corner, the next a stride on."""
        frame, x = small_cells().frame, images(2, 1, 16, 20)
        v = frame.interior(frame(x))
        assert v.shape == (2, 12, 2, 3, 4)
        expected = (frame.weight * x[1, :, 4:12, 8:16]).sum((2, 3, 4))
        torch.testing.assert_close(v[1, :, :, 1, 2], expected)

    @pytest.mark.parametrize(("patch_size", "stride"), [(8, 4), (9, 3)])
    def test_a_linear_field_at_centres_and_back(self, patch_size, stride):
        """Of even patches the middle is between pixels."""
        frame = TightFrame(8, 2, patch_size=patch_size, stride=stride)
        row, column = torch.meshgrid(*[torch.arange(6.0 * stride)] * 2, indexing="ij")
        field = torch.stack([column, 3 * row])
        centres = frame.interior(frame.at_centres(field))
        middles = (patch_size - 1) / 2 + stride * torch.arange(float(centres.shape[-1]))
        torch.testing.assert_close(centres[0, 0], middles)
        torch.testing.assert_close(centres[1, :, 0], 3 * middles)
        back = frame.to_pixels(centres, *field.shape[1:])
        inner = slice(patch_size // 2, -(patch_size // 2))
        torch.testing.assert_close(back[:, inner, inner], field[:, inner, inner])

    def test_circular_fields_go_around(self):
        frame = fourier_cells(8, 4).frame
        wave = torch.cos(2 * math.pi * torch.arange(4.0) / 4).expand(4, 4)
        pixels = frame.to_pixels(wave, 16, 16)
        # Middles are at 3.5, 7.5, 11.5, 15.5; 1.5 is half-way from the last one.
        torch.testing.assert_close(pixels[0, 7:9], torch.tensor([0.125, -0.125]))
        torch.testing.assert_close(pixels[0, 1:3], torch.tensor([0.375, 0.625]))
        assert frame.at_centres(torch.arange(16.0).expand(16, 16))[0].tolist() == [
            3.5,
            7.5,
            11.5,
            7.5,
        ]

    @pytest.mark.parametrize("boundary", ["zeros", "circular"])
    def test_translation_shows_what_is_to_the_right(self, boundary):
        frame = TightFrame(8, 2, patch_size=4, stride=4, boundary=boundary)
        x = torch.arange(16.0).view(1, 1, 4, 4)
        moved = frame.translated(x, 1, -2)
        torch.testing.assert_close(moved[0, 0, 2:, :3], x[0, 0, :2, 1:])
        assert (moved[0, 0, :, 3] == 0).all() == (boundary == "zeros")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"patch_size": 10, "stride": 4}, ValueError, "patch_size is 10 and stride 4"),
            ({"num_blocks": 31}, ValueError, "31 blocks of 2 units cannot span the 64 numbers"),
            ({"boundary": "mirror"}, ValueError, "boundary is 'mirror'"),
            ({"stride": 0}, ValueError, "stride is 0; expected at least 1"),
            ({"block_size": 1.5}, TypeError, "block_size is 1.5; expected whole numbers"),
        ],
    )
    def test_sizes_that_do_not_fit(self, options, error, message):
        with pytest.raises(error, match=f"TightFrame: {message}"):
            TightFrame(**{"num_blocks": 40, "block_size": 2, **options})

    def test_images_that_do_not_fit(self):
        frame = TightFrame()
        with pytest.raises(ValueError, match=r"shape \[1, 1, 60, 64\]; expected \[N, 1, H, W\]"):
            frame(torch.zeros(1, 1, 60, 64))
        with pytest.raises(ValueError, match=r"shape \[1, 3, 64, 64\]; expected"):
            frame(torch.zeros(1, 3, 64, 64))
        with pytest.raises(TypeError, match=r"TightFrame: x is torch\.uint8"):
            frame(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
        with pytest.raises(ValueError, match=r"v has shape \[1, 80, 9, 9\]"):
            frame.decode(torch.zeros(1, 80, 9, 9))


class TestMotionMatrices:
    def test_a_pair_of_waves_rotates_by_its_frequency_times_the_shift(self):
        """v(J) = R(⟨ω, dx⟩) v(I) for J(p) = I(p − dx), with R = [[c, −s], [s, c]]."""
        p, omega = 16, 2 * math.pi / 16 * torch.tensor([3.0, -2.0], dtype=DOUBLE)
        row, column = torch.meshgrid(*[torch.arange(p, dtype=DOUBLE)] * 2, indexing="ij")
        angle = omega[0] * column + omega[1] * row
        pair = torch.stack([angle.cos(), angle.sin()])
        x = images(p, p)
        v = (pair * x).sum((1, 2))
        right, down = 5, -4
        moved = (pair * x.roll((down, right), (0, 1))).sum((1, 2))
        turn = omega[0] * right + omega[1] * down
        rotation = torch.tensor([[turn.cos(), -turn.sin()], [turn.sin(), turn.cos()]], dtype=DOUBLE)
        torch.testing.assert_close(moved, rotation @ v)
        # Of warp's displacement δ = −dx the model has the same matrix.
        delta = -torch.tensor([right, down], dtype=DOUBLE)
        motion = RotationMotion(omega[None])
        torch.testing.assert_close(motion(delta)[0], rotation)

    def test_rotations_compose(self):
        motion = RotationMotion(torch.randn(5, 2, generator=seeded(), dtype=DOUBLE))
        a, b = torch.randn(2, 2, generator=seeded(1), dtype=DOUBLE)
        torch.testing.assert_close(motion(a) @ motion(b), motion(a + b))
        torch.testing.assert_close(motion(a) @ motion(a).mT, motion(0 * a))

    def test_the_taylor_matrix_is_of_second_order(self):
        motion, eye = TaylorMotion(3, 2, unit=2.0).double(), torch.eye(2, dtype=DOUBLE)
        assert torch.equal(motion(torch.zeros(4, 2, dtype=DOUBLE)), eye.expand(4, 3, 2, 2))
        with torch.no_grad():
            motion.coefficients.normal_(generator=seeded())
        b1, b2, b11, b22, b12 = motion.coefficients
        d1, d2 = 3.0, -0.5
        expected = eye + b1 * d1 / 2 + b2 * d2 / 2
        expected = expected + b11 * d1**2 / 4 + b22 * d2**2 / 4 + b12 * d1 * d2 / 4
        torch.testing.assert_close(motion(torch.tensor([d1, d2], dtype=DOUBLE)), expected)

    def test_a_table_has_the_matrix_of_the_nearest(self):
        motion = TableMotion(2, 2, max_displacement=1.0, step=0.5)
        with torch.no_grad():
            motion.matrices.normal_(generator=seeded())
        assert torch.equal(motion(motion.displacements), motion.matrices)
        near = torch.tensor([[0.3, -0.8], [7.0, 0.1]])
        expected = torch.tensor([[0.5, -1.0], [1.0, 0.0]])
        rows = (motion.displacements[None] == expected[:, None]).all(-1).float().argmax(1)
        assert torch.equal(motion(near), motion.matrices[rows])
        motion(near).sum().backward()
        assert motion.matrices.grad.flatten(1).any(1).sum() == 2

    def test_a_new_table_explains_nothing(self):
        cells = small_cells(max_displacement=1.0, step=1.0)
        v = cells.frame.interior(cells.frame(images(1, 1, 16, 16)))
        costs = motion_costs(v, v, cells.motion.matrices)
        torch.testing.assert_close(costs[:, 4], v.square().sum((1, 2)))
        assert (costs == costs[:, :1]).all()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: TableMotion(mixing_radius=3), "mixing_radius is 3; expected a multiple"),
            (lambda: TableMotion(step=0.7), "max_displacement is 6.0, no multiple of the step 0.7"),
            (lambda: displacement_lattice(1.0, 0.0), "max_displacement is 1.0 and step 0.0"),
            (lambda: TaylorMotion(unit=0.0), "unit is 0.0; expected a positive number"),
            (lambda: RotationMotion(torch.zeros(3)), r"frequencies have shape \[3\]"),
            (
                lambda: SimpleCells(TightFrame(40, 2), TaylorMotion(20, 4)),
                r"shape \[20, 4, 4\], the frame has 40 blocks of 2 units",
            ),
        ],
    )
    def test_what_does_not_fit(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestLosses:
    def test_mixing_is_the_sum_over_offsets(self):
        """(6.8), by loops over patches, blocks and offsets."""
        cells = small_cells(max_displacement=1.0, step=1.0, mixing_radius=2)
        with torch.no_grad():
            cells.motion.matrices.normal_(generator=seeded())
        x, y = images(1, 1, 20, 16), images(1, 1, 20, 16, seed=1)
        field = torch.randint(-1, 2, (1, 2, 4, 3), generator=seeded(2)).double()
        loss = cells.rotation_loss(x, y, field)
        padded = torch.nn.functional.pad(x, [2] * 4)
        expected = 0.0
        for row in range(4):
            for column in range(3):
                matrix = cells.motion(field[0, :, row, column])
                following = (cells.frame.weight * y[0, :, 4 * row :, 4 * column :][:, :8, :8]).sum(
                    (2, 3, 4)
                )
                for k in range(12):
                    predicted = torch.zeros(2, dtype=DOUBLE)
                    for s, (right, down) in enumerate(cells.motion.offsets):
                        top, left = 4 * row + 2 + down, 4 * column + 2 + right
                        patch = padded[0, :, top : top + 8, left : left + 8]
                        v = (cells.frame.weight[k] * patch).sum((1, 2, 3))
                        predicted = predicted + matrix[k, :, 2 * s : 2 * s + 2] @ v
                    expected = expected + (following[k] - predicted).square().sum()
        torch.testing.assert_close(loss[0], expected)

    @pytest.mark.parametrize("radius", [0, 2])
    def test_both_terms_are_per_number_of_the_image(self, radius):
        cells = small_cells(max_displacement=1.0, step=1.0, mixing_radius=radius)
        x, y = images(2, 1, 16, 16), images(2, 1, 16, 16, seed=1)
        field = torch.ones(2, 2, 3, 3, dtype=DOUBLE)
        loss = cells(x, y, field)
        torch.testing.assert_close(256 * loss.rotation, cells.rotation_loss(x, y, field))
        frame = cells.frame
        both = frame.reconstruction_loss(x) + frame.reconstruction_loss(y)
        torch.testing.assert_close(256 * loss.reconstruction, both)

    def test_no_filters_at_all_are_a_minimum_of_the_rotation_alone(self):
        cells = small_cells()
        torch.nn.init.zeros_(cells.frame.weight)
        x = images(2, 1, 16, 16)
        loss = cells(x, x.flip(2), torch.zeros(2, 2, 3, 3, dtype=DOUBLE))
        assert loss.rotation.tolist() == [0, 0]
        torch.testing.assert_close(loss.reconstruction, 2 * x.square().mean((1, 2, 3)))

    def test_gradients(self):
        cells = small_cells(TaylorMotion)
        x, y = images(1, 1, 12, 12), images(1, 1, 12, 12, seed=1)

        def total(weight, coefficients, field):
            parameters = {"frame.weight": weight, "motion.coefficients": coefficients}
            return sum(torch.func.functional_call(cells, parameters, (x, y, field)))

        inputs = (
            cells.frame.weight.detach(),
            0.1 * torch.randn(5, 12, 2, 2, generator=seeded(), dtype=DOUBLE),
            torch.randn(1, 2, 2, 2, generator=seeded(1), dtype=DOUBLE),
        )
        assert torch.autograd.gradcheck(
            total, [part.requires_grad_() for part in inputs], fast_mode=True
        )

    def test_displacements_of_other_patches(self):
        with pytest.raises(ValueError, match=r"displacement has shape \[1, 2, 5, 5\]; expected"):
            small_cells()(images(1, 1, 16, 16), images(1, 1, 16, 16), torch.zeros(1, 2, 5, 5))


class TestInference:
    def test_every_shift_of_the_lattice_is_found(self):
        """Of images of a patch's period, one for each of the 64 shifts of a period of 8 pixels."""
        oracle = fourier_cells(8, 4, dtype=DOUBLE)
        lattice = torch.cartesian_prod(*[torch.arange(-4.0, 4.0, dtype=DOUBLE)] * 2)
        first = images(64, 1, 8, 8).tile(1, 1, 2, 2)
        field = lattice.view(64, 2, 1, 1).expand(64, 2, 16, 16)
        second = shifted(first, lattice)
        found = oracle.infer(first, second, lattice)
        assert torch.equal(found, field[..., :4, :4])
        assert (oracle.rotation_loss(first, second, found) < 1e-20).all()

    def test_the_source_s_sizes(self):
        """169 whole shifts within ±6, by filters of 16×16."""
        cells = fourier_cells()
        lattice = displacement_lattice(6.0, 1.0)
        first = torch.randn(169, 1, 16, 16, generator=seeded())
        second = shifted(first, lattice)
        assert torch.equal(cells.infer(first, second, lattice)[..., 0, 0], lattice)

    def test_a_displacement_planted_in_each_patch(self):
        """Vectors are turned in place, by another displacement at every patch."""
        cells = fourier_cells(8, 4, dtype=DOUBLE)
        lattice = displacement_lattice(3.0, 0.5).double()
        v = torch.randn(2, *cells.frame.weight.shape[:2], 3, 5, generator=seeded(), dtype=DOUBLE)
        rows = torch.randint(len(lattice), (2, 3, 5), generator=seeded(1))
        field = lattice[rows].permute(0, 3, 1, 2)
        following = cells.predict(v, field)
        costs = motion_costs(following, v, cells.motion(lattice))
        assert torch.equal(costs.argmin(1), rows)

    @pytest.mark.parametrize("radius", [0, 2])
    def test_costs_are_those_of_each_candidate(self, radius):
        cells = small_cells(max_displacement=1.0, step=0.5, mixing_radius=radius)
        with torch.no_grad():
            cells.motion.matrices.normal_(generator=seeded())
        x, y = images(3, 1, 16, 20), images(3, 1, 16, 20, seed=1)
        lattice = cells.motion.displacements
        following = cells.frame.interior(cells.frame(y))
        context = cells.context(x)
        costs = motion_costs(following, context, cells.motion(lattice))
        for d in (0, 7, 24):
            field = lattice[d].view(1, 2, 1, 1).expand(3, 2, 3, 4)
            predicted = cells.predict(context, field)
            expected = (following - predicted).square().sum((1, 2))
            torch.testing.assert_close(costs[:, d], expected)
        found = cells.infer(x, y)
        for n in range(3):
            assert torch.equal(cells.infer(x[n : n + 1], y[n : n + 1]), found[n : n + 1])

    def test_in_parts_as_at_once(self, monkeypatch):
        v, w = torch.randn(2, 5, 3, 4, 2, 2, generator=seeded())
        matrices = torch.randn(6, 3, 4, 4, generator=seeded(1))
        doubled = torch.cat([matrices, 0 * matrices], 3)
        whole = motion_costs(v, torch.cat([w, w], 2), doubled)
        monkeypatch.setattr("gencore.models.visual_cortex.motion_costs._CHUNK", 200)
        torch.testing.assert_close(motion_costs(v, torch.cat([w, w], 2), doubled), whole)
        torch.testing.assert_close(motion_costs(v, w, matrices), whole)

    def test_what_does_not_fit(self):
        v = torch.zeros(1, 3, 2, 4, 4)
        with pytest.raises(ValueError, match=r"matrices \[5, 3, 2, 3\]; expected"):
            motion_costs(v, v, torch.zeros(5, 3, 2, 3))
        cells = small_cells(TaylorMotion)
        x = images(1, 1, 16, 16)
        with pytest.raises(ValueError, match="displacements is None, but only a TableMotion"):
            cells.infer(x, x)


class TestAnimation:
    def test_a_translation_is_animated_exactly(self):
        cells = fourier_cells(8, 4, dtype=DOUBLE)
        x = images(1, 1, 8, 8).tile(1, 1, 3, 2)
        step = torch.tensor([1.0, -2.0], dtype=DOUBLE).view(1, 1, 2, 1, 1).expand(1, 5, 2, 6, 4)
        frames = cells.animate(x, step)
        for t in range(5):
            torch.testing.assert_close(frames[:, t], x.roll((2 * t + 2, -t - 1), (2, 3)))

    def test_without_displacement_it_reconstructs(self):
        cells, x = small_cells(), images(2, 1, 16, 16)
        with torch.no_grad():
            cells.motion.matrices[...] = torch.eye(2)
        still = torch.zeros(2, 3, 2, 5, 5, dtype=DOUBLE)
        expected = cells.frame.decode(cells.frame(x)).unsqueeze(1).expand(2, 3, 1, 16, 16)
        torch.testing.assert_close(cells.animate(x, still), expected)

    def test_mixing_cannot_be_repeated(self):
        cells = small_cells(mixing_radius=2, max_displacement=1.0)
        with pytest.raises(ValueError, match="animate: the matrices mix vectors of other places"):
            cells.animate(images(1, 1, 16, 16), torch.zeros(1, 1, 2, 5, 5))


def test_the_closed_form_is_a_tight_frame_of_pairs():
    """One of ω and −ω each, and of the four without a sine one unit is zero."""
    for patch_size, stride in ((8, 4), (6, 2)):
        weight = fourier_cells(patch_size, stride).frame.weight.flatten(2)
        assert len(weight) == patch_size**2 // 2 + 2
        assert (weight.norm(dim=2) < 1e-4).sum() == 4
    with pytest.raises(ValueError, match="patch_size is 7 and stride 7"):
        fourier_cells(7, 7)
