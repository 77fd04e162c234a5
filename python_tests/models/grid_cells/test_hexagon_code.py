"""Three plane waves a module: the closed forms of theorems 1 to 4, and the transform's group."""

import math

import pytest
import torch

from gencore.data import PlaceLattice
from gencore.models import (
    HexagonCode,
    NetworkTransform,
    composition_error,
    conformality,
    expected_position_error,
    lie_step,
    perturb_units,
    project_position,
)

WAVE = 20.0  # ‖a‖, in 1/metre
SPACING = 4 * math.pi / (math.sqrt(3) * WAVE)


def hexagons(*spacings, **options):
    options = {"dtype": torch.float64, **options}
    return HexagonCode(PlaceLattice(40), spacings or (SPACING,), **options)


def positions(num=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 2, generator=generator, dtype=torch.float64)


def random_unitary():
    torch.manual_seed(3)
    return torch.linalg.qr(torch.randn(3, 3, dtype=torch.complex128))[0]


class TestTheorem4:
    @pytest.mark.parametrize("mixing", [None, random_unitary()])
    def test_the_scale_and_the_metric(self, mixing):
        """s = √(3/2) ‖a‖ and μ = ‖a‖/√2, the same at every place and in every direction."""
        code = hexagons(mixing=mixing)
        v = code.encode(positions()).expand(7, -1, -1, -1)
        direction = torch.linspace(0, 6, 7, dtype=torch.float64)
        speed, length = code.derivative(v, direction).norm(dim=-1), v.norm(dim=-1)
        torch.testing.assert_close(length.square(), torch.full_like(length, 3))
        torch.testing.assert_close(speed, torch.full_like(speed, math.sqrt(1.5) * WAVE))
        ratio = speed / length
        torch.testing.assert_close(ratio, torch.full_like(ratio, WAVE / math.sqrt(2)))

    def test_the_spacing_of_fields(self):
        """Fields repeat along the lattice of period 4π/(√3 ‖a‖), and at no shorter shift."""
        code, x = hexagons(SPACING, orientations=[0.2]), positions()
        for turn in range(6):
            angle = 0.2 + math.pi / 6 + turn * math.pi / 3
            shift = SPACING * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            torch.testing.assert_close(code.encode(x + shift), code.encode(x))
        angle = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)[:, None]
        ring = 0.9 * SPACING * torch.cat([angle.cos(), angle.sin()], 1)
        assert (code.encode(ring) - code.encode(torch.zeros_like(ring))).norm(dim=-1).min() > 0.3

    def test_the_units_are_shifted_copies(self):
        code = hexagons()
        phase = torch.tensor([0, 2 * math.pi / 3, -2 * math.pi / 3], dtype=torch.float64)
        shift = torch.linalg.lstsq(code.waves[0], phase[:, None]).solution.squeeze(1)
        here, there = (code.encode(positions() + n * shift)[:, 0] for n in (0, 1))
        torch.testing.assert_close(here[:, [1, 2, 4, 5]], there[:, [0, 1, 3, 4]])

    def test_the_generator_is_the_derivative(self):
        """B = U D U*, by differences; with another U the printed U* D U would fail."""
        code = hexagons(mixing=random_unitary())
        x, step = positions(), 1e-6
        for angle in (0.0, 0.7, 2.5, 4.0):
            move = step * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            slope = (code.encode(x + move) - code.encode(x - move)) / (2 * step)
            direction = torch.tensor([angle], dtype=torch.float64)
            b = code.generator(direction)[0, 0]
            torch.testing.assert_close(b, -b.T, rtol=0, atol=1e-12)
            found = code.derivative(code.encode(x)[None], direction)[0]
            torch.testing.assert_close(found, slope, rtol=0, atol=1e-6)


class TestConformality:
    def test_g29_hexagons_are_conformal(self):
        """JᵀJ = s²I, and so s² = Σₖ 3/2 ‖aₖ‖² over modules."""
        code = hexagons(0.3, 0.42, orientations=[0.1, 0.5])
        report = conformality(code.encode, positions())
        s2 = sum(1.5 * (4 * math.pi / (math.sqrt(3) * spacing)) ** 2 for spacing in (0.3, 0.42))
        metric = s2 * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(report.metric, metric.expand(50, 2, 2))
        torch.testing.assert_close(report.scale, torch.full_like(report.scale, math.sqrt(s2)))
        assert report.anisotropy.max() < 1e-7

    def test_theorem_1_directions_mix_two_orthogonal_vectors(self):
        """f_θ = f₀ cos θ + f_{π/2} sin θ, of equal lengths (5.5)."""
        code = hexagons(0.3, 0.42)
        v = code.encode(positions()).expand(3, -1, -1, -1)
        angles = torch.tensor([0, math.pi / 2, 1.1], dtype=torch.float64)
        east, north, between = code.derivative(v, angles).flatten(2)
        torch.testing.assert_close(between, east * math.cos(1.1) + north * math.sin(1.1))
        assert (east * north).sum(1).abs().max() < 1e-8
        torch.testing.assert_close(east.norm(dim=1), north.norm(dim=1))

    def test_a_stretched_embedding(self):
        """Of the embedding (3x, y) the metric is diag(9, 1)."""
        stretch = torch.tensor([3.0, 1.0], dtype=torch.float64)
        report = conformality(lambda x: x * stretch, positions(2))
        torch.testing.assert_close(report.metric[0], torch.diag(stretch.square()))
        assert report.anisotropy[0].item() == pytest.approx(0.5)
        assert report.scale[1].item() == pytest.approx(math.sqrt(5))

    def test_condition_1(self):
        """Two steps of hexagons are one; those of a network that has learned nothing are not."""
        code, moves = hexagons(0.3, 0.42), 0.1 * torch.randn(2, 50, 2, dtype=torch.float64)
        v = code.encode(positions())
        assert composition_error(code.step, v, *moves).max() < 1e-10
        torch.manual_seed(0)
        network = NetworkTransform(2, 6, unit=0.1).double()
        assert composition_error(network, v, *moves).min() > 1e-3

    def test_a_networks_derivative(self):
        torch.manual_seed(0)
        network = NetworkTransform(3, 4, unit=0.2).double()
        v, direction = torch.randn(5, 7, 3, 4).double(), torch.rand(5).double()
        ahead, behind = (
            network(v, torch.full((5, 7), d).double(), direction) for d in (1e-6, -1e-6)
        )
        torch.testing.assert_close(
            network.derivative(v, direction), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8
        )


class TestTheorem3:
    @pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1, 0.2])
    def test_g31_what_is_left_of_noise(self, alpha):
        """E‖x̂ − x‖² = 2α²/(μ²d), d = 6: within 2 %, where the curvature is small."""
        code, num = hexagons(), 50_000
        x = positions(num, seed=1)
        noisy = perturb_units(code.encode(x), alpha, generator=torch.Generator().manual_seed(2))
        found = project_position(code.encode, noisy, x, num_steps=6)
        squared = (found - x).square().sum(1)
        expected = expected_position_error(alpha, WAVE / math.sqrt(2), 6)
        # The squared error is exponential, so that its mean is known to 1/√num = .45 %.
        assert squared.mean().item() == pytest.approx(expected, rel=0.02)

    def test_noise_has_the_size_it_says(self):
        v = 3 * torch.randn(20_000, 2, 5, generator=torch.Generator().manual_seed(0))
        noise = perturb_units(v, 0.5, generator=torch.Generator().manual_seed(1)) - v
        relative = noise.flatten(1).square().sum(1) / v.flatten(1).square().sum(1)
        assert relative.mean().item() == pytest.approx(0.25, rel=0.02)

    def test_the_projection_is_not_rounded(self):
        code, x = hexagons(), positions()
        found = project_position(code.encode, code.encode(x), x + 0.02)
        torch.testing.assert_close(found, x, rtol=0, atol=1e-10)


class TestSeries:
    """exp(BΔr), and what its second-order form does to a plane that turns."""

    def test_g30_errors_are_of_third_order(self):
        b = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        b, v = b - b.mT, torch.randn(1, 2, 6, dtype=torch.float64)
        exact = [torch.linalg.matrix_exp(b[0] * r) @ v[0, ..., None] for r in (0.02, 0.01)]
        for order in (1, 2, 3):
            errors = [
                (lie_step(v, b, torch.tensor([r]).double(), order=order)[0] - e.squeeze(-1)).norm()
                for r, e in zip((0.02, 0.01), exact, strict=True)
            ]
            assert (errors[0] / errors[1]).item() == pytest.approx(2 ** (order + 1), rel=0.1)

    @pytest.mark.parametrize("phi", [0.2, 0.5])
    def test_the_drift_of_the_second_order(self, phi):
        """A turn by φ makes the vector (1 + φ⁴/4)^½ longer, and is arctan(φ/(1 − φ²/2))."""
        turn = torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]], dtype=torch.float64)
        v, distance = (torch.tensor(x, dtype=torch.float64) for x in ([[[1, 0]]], [phi]))
        v = lie_step(v, turn, distance, order=2)
        assert v.norm().item() == pytest.approx((1 + phi**4 / 4) ** 0.5, rel=1e-12)
        ahead = torch.atan2(v[0, 0, 1], v[0, 0, 0]).item() - phi
        assert ahead == pytest.approx(math.atan2(phi, 1 - phi**2 / 2) - phi, rel=1e-12)
        assert ahead == pytest.approx(phi**3 / 6, rel=0.05 if phi < 0.3 else 0.2)

    def test_exponentials_of_one_direction_are_a_group(self):
        code = hexagons(0.3, 0.42, mixing=random_unitary())
        b = code.generator(torch.tensor([0.9], dtype=torch.float64))[0]
        one, other, both = (torch.linalg.matrix_exp(b * r) for r in (0.13, 0.29, 0.42))
        torch.testing.assert_close(one @ other, both)
        torch.testing.assert_close(one @ one.mT, torch.eye(6).double().expand(2, 6, 6))

    @pytest.mark.parametrize("order", [None, 1, 2])
    def test_gradients(self, order):
        b = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
        v = torch.randn(2, 4, 1, 3, dtype=torch.float64, requires_grad=True)
        r = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda *x: lie_step(*x, order=order), (v, b, r))

    def test_groups_are_as_vectors_one_by_one(self):
        b, v, r = torch.randn(3, 2, 4, 4), torch.randn(3, 5, 2, 4), torch.rand(3, 5)
        for order in (None, 2):
            together = lie_step(v, b, r, order=order)
            single = torch.stack([lie_step(v[:, i], b, r[:, i], order=order) for i in range(5)], 1)
            torch.testing.assert_close(together, single)


def test_what_does_not_fit():
    lattice = PlaceLattice(5)
    with pytest.raises(ValueError, match=r"HexagonCode: spacings are \[0.3, 0\]"):
        HexagonCode(lattice, [0.3, 0])
    with pytest.raises(ValueError, match=r"orientations \[0\.1\]; expected"):
        HexagonCode(lattice, [0.3, 0.4], [0.1])
    with pytest.raises(ValueError, match="mixing is not a unitary matrix"):
        HexagonCode(lattice, [0.3], mixing=torch.ones(3, 3))
    with pytest.raises(ValueError, match="by is 'readout'; expected 'code'"):
        HexagonCode(lattice, [0.3]).decode(torch.zeros(1, 1, 6), by="readout")
    with pytest.raises(ValueError, match=r"lie_step: v has shape \[2, 1, 3\]"):
        lie_step(torch.zeros(2, 1, 3), torch.zeros(3, 1, 3, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="lie_step: order is 0"):
        lie_step(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3, 3), torch.zeros(2), order=0)
    with pytest.raises(ValueError, match=r"conformality: x has shape \[3\]"):
        conformality(torch.sin, torch.zeros(3))
    with pytest.raises(ValueError, match=r"composition_error: second has shape \[2, 3\]"):
        composition_error(max, torch.zeros(2, 1, 2), torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"project_position: start has shape \[1, 2\]"):
        project_position(torch.sin, torch.zeros(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="perturb_units: alpha is -1"):
        perturb_units(torch.zeros(1, 1, 1), -1)
    with pytest.raises(ValueError, match="NetworkTransform: unit is 0"):
        NetworkTransform(1, 2, unit=0)


def test_dtypes():
    assert hexagons(dtype=torch.float32).encode(positions().float()).dtype == torch.float32
    with pytest.raises(TypeError, match=r"dtype is torch.bfloat16; expected float32 or float64"):
        hexagons(dtype=torch.bfloat16)
