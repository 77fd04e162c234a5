"""Densities on the plane: samples and log-densities belong together, and integrals come out."""

import math

import pytest
import torch

from gencore.data import load_density
from gencore.data.plane.densities import NoisyCurves, SpotDensity
from gencore.metrics import SquareGrid

norm = pytest.importorskip("scipy.stats").norm

NAMES = (
    "swiss_roll", "grid9", "eight_gaussians", "twenty_five_gaussians", "pinwheel", "two_moons",
    "two_spirals", "checkerboard",
)  # fmt: skip


def key(seed):
    return torch.tensor([seed, 0])


@pytest.mark.parametrize("name", NAMES)
class TestEveryDensity:
    def test_integrates_to_one_within_its_extent(self, name):
        density = load_density(name)
        grid = SquareGrid(density.extent, 180)
        assert abs(grid.log_integral(density.log_prob(grid.points()))) < 2e-6

    def test_mean_log_density_of_samples_is_the_entropy(self, name):
        density, num = load_density(name), 20_000
        grid = SquareGrid(density.extent, 150)
        entropy = grid.entropy(density.log_prob(grid.points()))
        values = density.log_prob(density.sample(num, key=key(1))).double()
        assert abs(values.mean().item() + entropy) < 4 * values.std().item() / math.sqrt(num)

    def test_samples_fall_where_the_density_says(self, name):
        """Counts in 36 cells, small ones pooled, within 4.5 errors of the integrals over them."""
        density, num, cells, fine = load_density(name), 50_000, 6, 30
        grid = SquareGrid(density.extent, cells * fine)
        p = density.log_prob(grid.points()).double().exp() * math.exp(grid.log_cell)
        expected = p.reshape(cells, fine, cells, fine).sum((1, 3)).flatten()
        x = density.sample(num, key=key(2)).double()
        assert (x.abs() <= density.extent).all()
        place = ((x / density.extent + 1) / 2 * cells).long().clamp(max=cells - 1)
        counts = torch.bincount(place[:, 0] * cells + place[:, 1], minlength=cells**2)
        is_full = num * expected > 20
        counts, expected = (
            torch.cat([part[is_full], part[~is_full].sum()[None]]) for part in (counts, expected)
        )
        # The midpoint rule cuts cells off where the density is steep: 10⁻³ of a cell's mass.
        error = (num * expected * (1 - expected)).sqrt() + 1e-3 * num * expected
        assert ((counts - num * expected).abs() <= 4.5 * error).all()

    def test_keys_and_parts(self, name):
        density = load_density(name)
        whole = density.sample(10, key=key(3))
        assert whole.shape == (10, 2)
        assert whole.dtype == torch.float32
        assert torch.equal(whole[4:], density.sample(6, key=key(3), first=4))
        assert not torch.equal(whole, density.sample(10, key=key(4)))
        generators = [torch.Generator().manual_seed(0) for _ in range(2)]
        first, second = (density.sample(5, generator=generator) for generator in generators)
        assert torch.equal(first, second)
        assert density.sample(0).shape == (0, 2)
        assert density.log_prob(torch.zeros(0, 2)).shape == (0,)

    def test_log_density_is_smooth_and_differentiable(self, name):
        density = load_density(name)
        x = density.sample(5, key=key(5)).double().requires_grad_()
        assert torch.autograd.gradcheck(density.log_prob, x)

    def test_precision_follows_the_input(self, name):
        density = load_density(name)
        x = density.sample(100, key=key(6))
        single, double = density.log_prob(x), density.log_prob(x.double())
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
        assert (single - double).abs().max() < 2e-4


def test_spots_are_a_mixture_of_normals():
    """At a point of the grid, written out: (1/9) Σ N(x; cₖ, 0.15²)."""
    x, y = 0.3, -0.8
    p = sum(norm.pdf(x, i, 0.15) * norm.pdf(y, j, 0.15) / 9 for i in (-1, 0, 1) for j in (-1, 0, 1))
    value = load_density("grid9").log_prob(torch.tensor([[x, y]], dtype=torch.float64))
    assert value.item() == pytest.approx(math.log(p))


def test_one_spot_is_a_normal():
    density = SpotDensity([(0.5, -1.0)], std=0.3)
    x = torch.randn(20, 2, dtype=torch.float64)
    expected = (
        torch.distributions.Normal(torch.tensor([0.5, -1.0]).double(), 0.3).log_prob(x).sum(1)
    )
    torch.testing.assert_close(density.log_prob(x), expected)


@pytest.mark.parametrize("std", [0.5, 0.02])
def test_a_noisy_segment_is_known_in_closed_form(std):
    """A uniform segment plus noise: Φ((x+1)/s) − Φ((x−1)/s) over its length, times N(y; 0, s²)."""
    segment = NoisyCurves([lambda t: torch.stack([t, 0 * t], 1)], (-1.0, 1.0), std)
    x = torch.tensor([[0.0, 0.0], [0.97, 0.01], [1.02, -0.01], [-1.0, 0.03]], dtype=torch.float64)
    along, across = x.numpy().T
    expected = (norm.cdf((along + 1) / std) - norm.cdf((along - 1) / std)) / 2
    expected = torch.from_numpy(expected * norm.pdf(across, 0, std))
    torch.testing.assert_close(segment.log_prob(x).exp(), expected, rtol=1e-7, atol=0)


def test_the_pinwheel_is_the_straight_one_rotated():
    """Five-fold symmetric, and on a circle a rotation of the mixture by rate·e^r."""
    density = load_density("pinwheel")
    x = torch.randn(50, 2, dtype=torch.float64)
    angle = 2 * math.pi / 5
    turn = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    torch.testing.assert_close(density.log_prob(x @ turn), density.log_prob(x))
    radius = 0.9
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    circle = radius * torch.stack([angle.cos(), angle.sin()], 1)
    best = angle[density.log_prob(circle).argmax()].item() - 0.25 * math.exp(radius)
    assert abs((best + angle[1] / 2) % (2 * math.pi / 5)) < 2 * angle[1]


def test_unknown_densities_are_named():
    with pytest.raises(ValueError, match="name is 'grid'; expected one of swiss_roll, grid9"):
        load_density("grid")
    for shape in ((3,), (2, 3)):
        with pytest.raises(ValueError, match="expected points"):
            load_density("grid9").log_prob(torch.zeros(shape))
    with pytest.raises(ValueError, match="expected points"):
        load_density("pinwheel").log_prob(torch.zeros(3, 2, dtype=torch.int64))


class TestSquareGrid:
    def test_points_are_the_midpoints(self):
        points = SquareGrid(1.0, 2).points()
        assert points.tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
        points = SquareGrid(1.0, 3).points(dtype=torch.float64)
        assert points[0].tolist() == [1 / 3 - 1, 1 / 3 - 1]  # which float32 does not hold

    def test_normals_have_their_entropy_and_divergence(self):
        """KL(N(0, a²I) ‖ N(m, b²I)) = 2 log(b/a) + (2a² + ‖m‖²)/(2b²) − 1."""
        grid = SquareGrid(8.0, 120)
        x = grid.points().double()
        a, b, mean = 0.7, 1.2, torch.tensor([0.5, -0.2])
        log_p, log_q = (
            torch.distributions.Normal(m, s).log_prob(x).sum(1) for m, s in ((0.0, a), (mean, b))
        )
        expected = 2 * math.log(b / a) + (2 * a**2 + 0.29) / (2 * b**2) - 1
        assert grid.kl_divergence(log_p, log_q) == pytest.approx(expected, abs=1e-6)
        assert grid.entropy(log_p) == pytest.approx(math.log(2 * math.pi * math.e * a**2), abs=1e-6)
        assert grid.log_integral(log_q - 3.0) == pytest.approx(-3.0, abs=1e-6)

    def test_where_p_vanishes_nothing_is_added(self):
        grid = SquareGrid(1.0, 1)
        log_p, log_q = torch.tensor([-math.inf]), torch.tensor([-math.inf])
        assert grid.kl_divergence(log_p, log_q) == 0
        assert grid.kl_divergence(torch.tensor([0.0]), log_q) == math.inf

    def test_wrong_options_are_named(self):
        with pytest.raises(ValueError, match="half_width is 0 and size 5"):
            SquareGrid(0, 5)
