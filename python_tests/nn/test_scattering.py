"""The scattering transform: its filters, energies, norms, orders by hand, and small warps."""

import copy
import math

import numpy
import pytest
import torch
from torch import nn

from gencore.nn import Scattering


def images(num=2, side=32, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 2, side, side, generator=generator, dtype=dtype)


def texture(seed, frequencies, displacement=0.0, side=64):
    """Waves of random directions and of frequencies in a range, at u − τ(u): a sine of this
    amplitude, in pixels, moves the points."""
    generator = torch.Generator().manual_seed(seed)
    turn, angles, phases = torch.rand(3, 20, generator=generator, dtype=torch.float64)
    low, high = frequencies
    radii = (low + (high - low) * turn) * side / (2 * math.pi)
    waves = torch.stack([radii * (math.pi * angles).sin(), radii * (math.pi * angles).cos()])
    u = torch.arange(side, dtype=torch.float64)
    rows, columns = torch.meshgrid(u, u, indexing="ij")
    step = 2 * math.pi / side
    moved = (
        rows - displacement * (step * columns).sin(),
        columns - displacement * (step * rows).sin(),
    )
    turns = step * torch.einsum("kn,kij->nij", waves.round(), torch.stack(moved))
    return (turns + 2 * math.pi * phases[:, None, None]).cos().sum(0)[None, None]


class TestFilters:
    @pytest.mark.parametrize("num_angles", [2, 3, 8])
    @pytest.mark.parametrize("sides", [(32, 32), (16, 40)])
    def test_the_first_layer_keeps_the_energy(self, sides, num_angles):
        """‖x‖² = ‖x*φ‖² + Σ‖x*ψ‖² for any real image, though φ is known at every 8th pixel alone:
        nothing of it is lost there."""
        scattering = Scattering(*sides, num_scales=3, num_angles=num_angles, order=0).double()
        torch.manual_seed(0)
        x = torch.randn(3, 2, *sides, dtype=torch.float64)
        low = 4**3 * scattering(x).square().sum((1, 2, 3, 4))
        high = scattering.wavelet_coefficients(x).abs().square().flatten(1).sum(1)
        energy = x.square().sum((1, 2, 3))
        torch.testing.assert_close(low + high, energy, rtol=1e-12, atol=0)
        assert (low > energy / 1000).all()

    def test_wavelets_have_no_mean_and_are_those_of_their_frequency(self):
        scattering = Scattering(64, 64, num_scales=3, num_angles=4)
        assert (scattering.wavelets[..., 0, 0] == 0).all()
        for j in range(3):
            for k in range(4):
                peak = scattering.wavelets[j, k].argmax().item()
                rows, columns = ((place + 32) % 64 - 32 for place in divmod(peak, 64))
                # The grid has steps of 2π/64; the finest wavelets also have all that is beyond.
                error = 2 * math.pi / 64 * math.hypot(rows, columns) - 3 * math.pi / 4 / 2**j
                assert -0.1 < error < (0.1 if j else 0.6)
                angle = math.atan2(rows, columns) % math.pi
                assert min(abs(angle - k * math.pi / 4), math.pi - angle if k == 0 else 9) < 0.15

    def test_paths_of_order_two_go_to_coarser_scales(self):
        scattering = Scattering(32, 32, num_scales=3, num_angles=4)
        assert len(scattering.paths) == 1 + 12 + 3 * 16 == scattering(images()).shape[2]
        assert len(set(scattering.paths)) == len(scattering.paths)
        assert all(path[0][0] < path[1][0] for path in scattering.paths[13:])


def morlet_coefficients(x, num_scales, num_angles):
    """Orders 0 to 2 of one square image by numpy in float64, from the formulas: Gaussians summed
    over the periods of the frequency, their means removed, and all scaled to a tight frame."""
    side = len(x)
    omega = 2 * numpy.pi * numpy.fft.fftfreq(side)
    rows, columns = omega[:, None], omega[None, :]
    radius = numpy.minimum(numpy.hypot(rows, columns) * 2**num_scales / numpy.pi, 1)
    low = numpy.cos(numpy.pi / 2 * radius) ** 2
    periods = 2 * numpy.pi * numpy.arange(-2, 3)

    def gaussian(j, angle, centre):
        u, v = (rows + periods[:, None, None, None]), (columns + periods[None, :, None, None])
        along = numpy.cos(angle) * v + numpy.sin(angle) * u - centre
        across = num_angles / 4 * (numpy.cos(angle) * u - numpy.sin(angle) * v)
        return numpy.exp(-((0.8 * 2**j) ** 2) / 2 * (along**2 + across**2)).sum((0, 1))

    def wavelet(j, angle):
        wave = gaussian(j, angle, 3 * numpy.pi / 4 / 2**j)
        envelope = gaussian(j, angle, 0)
        return wave - wave[0, 0] / envelope[0, 0] * envelope

    bank = {
        (j, k): wavelet(j, numpy.pi * k / num_angles)
        for j in range(num_scales) for k in range(num_angles)
    }  # fmt: skip
    power = sum(w**2 for w in bank.values())
    mirrored = numpy.roll(power[::-1, ::-1], (1, 1), (0, 1))
    with numpy.errstate(invalid="ignore"):
        scale = numpy.sqrt((1 - low**2) / ((power + mirrored) / 2))
    scale[0, 0] = 0

    def moduli(u, path):
        return abs(numpy.fft.ifft2(numpy.fft.fft2(u) * scale * bank[path]))

    def average(u):
        return numpy.fft.ifft2(numpy.fft.fft2(u) * low).real[:: 2**num_scales, :: 2**num_scales]

    first = {path: moduli(x, path) for path in bank}
    second = [moduli(first[a], b) for a in bank for b in bank if a[0] < b[0]]
    return numpy.stack([average(u) for u in (x, *first.values(), *second)])


class TestPrecision:
    def test_of_double_modules_it_is_that_of_float64(self):
        x = images(1, side=16)[:, :1]
        expected = morlet_coefficients(x[0, 0].numpy(), num_scales=2, num_angles=3)
        scattering = Scattering(16, 16, num_scales=2, num_angles=3)
        for module in (
            copy.deepcopy(scattering).double(),
            copy.deepcopy(scattering).to(torch.bfloat16).to(torch.float64),
            nn.Sequential(copy.deepcopy(scattering)).double()[0],
        ):
            found = module(x)[0, 0].numpy()
            numpy.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
        narrow = scattering(x.float())
        assert narrow.dtype == torch.float32
        numpy.testing.assert_allclose(narrow[0, 0].numpy(), expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(scattering.double().float()(x.float()), narrow)
        assert not scattering.state_dict()


class TestOrders:
    @pytest.mark.parametrize("num_scales", [2, 3])
    def test_they_are_sums_by_hand(self, num_scales):
        """Circular convolutions with the filters, written as sums over pixels; the coefficients
        are every 2^J-th pixel, in the order of the paths."""
        scattering = Scattering(8, 8, num_scales=num_scales, num_angles=2).double()
        x = images(1, side=8)[:, :1]
        dft = torch.fft.fft(torch.eye(8, dtype=torch.complex128))
        inverse = dft.conj() / 8

        def kernel(spectrum):
            return torch.einsum("ai,ij,bj->ab", inverse, spectrum.to(dft.dtype), inverse)

        def convolve(u, kernel):
            shifted = [kernel[a, b] * u.roll((a, b), (0, 1)) for a in range(8) for b in range(8)]
            return torch.stack(shifted).sum(0)

        axis = torch.fft.fftfreq(8, dtype=torch.float64) * 8
        radius = (axis[:, None].square() + axis.square()).sqrt() * 2**num_scales / 4
        low = kernel((math.pi / 2 * radius.clamp(max=1)).cos().square())
        waves = [[kernel(wavelet) for wavelet in scale] for scale in scattering.wavelets]
        expected = []
        for path in scattering.paths:
            u = x[0, 0].to(dft.dtype)
            for j, angle in path:
                u = convolve(u, waves[j][angle]).abs().to(dft.dtype)
            expected.append(convolve(u, low).real[:: 2**num_scales, :: 2**num_scales])
        torch.testing.assert_close(
            scattering(x)[0, 0], torch.stack(expected), rtol=1e-12, atol=1e-12
        )

    def test_lower_orders_are_parts_of_higher_ones(self):
        x = images(dtype=torch.float32)
        zero, one, two = (Scattering(32, 32, num_angles=4, order=order)(x) for order in range(3))
        assert torch.equal(zero, one[:, :, :1])
        assert torch.equal(one, two[:, :, :13])

    def test_a_constant_image_has_its_value_alone(self):
        y = Scattering(16, 16, num_angles=4)(torch.full((1, 1, 16, 16), 3.0))
        torch.testing.assert_close(y[:, :, 0], torch.full((1, 1, 2, 2), 3.0))
        assert y[:, :, 1:].abs().max() < 1e-5


class TestNorms:
    @pytest.mark.parametrize("side", [16, 32])
    def test_it_does_not_expand(self, side):
        scattering = Scattering(side, side, num_angles=4).double()
        x, y = images(8, side), images(16, side)[8:]
        for other in (y, x + 1e-3 * y, x.roll(1, 3)):
            pixels = (x - other).flatten(1).norm(dim=1)
            assert (scattering.distance(x, other) <= pixels * (1 + 1e-12)).all()
        norms = scattering.distance(x, torch.zeros_like(x))
        assert (norms <= x.flatten(1).norm(dim=1)).all()
        assert (norms > 0.9 * x.flatten(1).norm(dim=1)).all()  # little is left for order 3

    def test_it_is_a_distance_of_rows(self):
        scattering = Scattering(32, 32, num_angles=4).double()
        x, y = images(3), images(6)[3:]
        assert (scattering.distance(x, x) == 0).all()
        whole = scattering.distance(x, y)
        torch.testing.assert_close(scattering.distance(y, x), whole)
        torch.testing.assert_close(scattering.distance(x[1:2], y[1:2]), whole[1:2])

    def test_shifts_by_the_coarse_pixels_shift_the_coefficients(self):
        scattering = Scattering(32, 32, num_angles=4).double()
        x = images()
        moved = scattering(x.roll((8, -16), (2, 3)))
        torch.testing.assert_close(moved, scattering(x).roll((1, -2), (3, 4)))

    def test_gradients(self):
        scattering = Scattering(8, 8, num_scales=2, num_angles=2).double()
        x = images(1, side=8)[:, :1].requires_grad_()
        assert torch.autograd.gradcheck(scattering, (x,))


class TestWarps:
    @pytest.mark.parametrize(("low", "high", "displacement"), [(0.6, 1.2, 2.0), (1.2, 2.4, 1.0)])
    def test_b15_it_is_stable_where_pixels_are_not(self, low, high, displacement):
        """A displacement of one or two pixels, and a slope of a tenth or two. Pixels are nearly as
        far from the warped image as from one that has nothing to do with it; coefficients are
        not."""
        scattering = Scattering(64, 64).double()
        for seed in range(3):
            x = texture(seed, (low, high))
            warped, other = (
                texture(seed, (low, high), displacement),
                texture(seed + 10, (low, high)),
            )
            by_pixels = [(x - y).norm() / x.norm() for y in (warped, other)]
            by_waves = [scattering.distance(x, y).item() / x.norm() for y in (warped, other)]
            assert by_pixels[0] > 0.6 * by_pixels[1]
            assert by_waves[0] < 0.4 * by_waves[1]
            assert by_pixels[0] > 6 * by_waves[0]

    def test_b15_it_moves_in_proportion_to_the_warp_at_any_frequency(self):
        """Twice the warp, twice the distance, at most a constant times the slope 2π a/64 of the
        displacement; the pixels' distance grows with the frequency until it saturates."""
        scattering = Scattering(64, 64).double()
        pixels = []
        for frequencies in ((0.6, 0.8), (1.2, 1.6), (2.0, 2.6)):
            x = texture(0, frequencies)
            warped = [texture(0, frequencies, amplitude) for amplitude in (0.25, 0.5, 1.0)]
            ratios = [
                scattering.distance(x, y).item() / x.norm() / (2 * math.pi * amplitude / 64)
                for amplitude, y in zip((0.25, 0.5, 1.0), warped, strict=True)
            ]
            assert max(ratios) < 1.2
            assert max(ratios) < 1.2 * min(ratios)
            pixels.append((x - warped[1]).norm() / x.norm())
        assert pixels[2] > 2 * pixels[0]

    def test_a_longer_average_bears_larger_shifts(self):
        x = texture(0, (0.6, 1.2))
        distances = []
        for num_scales in (1, 2, 3, 4):
            scattering = Scattering(64, 64, num_scales=num_scales, num_angles=4).double()
            distances.append(scattering.distance(x, x.roll(1, 3)).item())
        assert distances == sorted(distances, reverse=True)
        assert distances[3] < distances[0] / 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scattering(32, 20), "images are 32x20; expected multiples of 8 for 3 scales"),
        (lambda: Scattering(32, 32, num_angles=1), "num_angles is 1; expected at least 2"),
        (lambda: Scattering(32, 32, order=3), "order is 3; expected one of 0, 1, 2"),
        (lambda: Scattering(32, 32, num_scales=0), "num_scales is 0"),
        (lambda: Scattering(8, 8)(torch.zeros(1, 1, 8, 16)), r"shape \[1, 1, 8, 16\]; expected \["),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
