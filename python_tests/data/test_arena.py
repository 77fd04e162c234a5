"""The square of places: its fields, what lies between places, and paths."""

import math
from importlib.util import find_spec

import pytest
import torch

from gencore.data import PlaceLattice, free_walks, lattice_walks, packaged, rat_paths


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestLattice:
    def test_a_place_is_nearest_to_itself(self):
        lattice = PlaceLattice(7, side=3.0)
        x = lattice.positions(dtype=torch.float64)
        assert lattice.nearest(x).tolist() == list(range(49))
        assert lattice.nearest(x + 0.49 * lattice.spacing).tolist() == list(range(49))
        assert x.max() == 3

    def test_interpolation_keeps_nodes_and_planes(self):
        """A bilinear function is itself between places; at places any table is."""
        lattice = PlaceLattice(5, side=2.0)
        x = lattice.positions(dtype=torch.float64)
        table = torch.randn(25, 3, 2, dtype=torch.float64, generator=seeded())
        torch.testing.assert_close(lattice.interpolate(table, x), table)
        inside = 2 * torch.rand(4, 10, 2, dtype=torch.float64, generator=seeded())
        plane = 1 + 2 * x[:, 0] - 3 * x[:, 1]
        expected = 1 + 2 * inside[..., 0] - 3 * inside[..., 1]
        torch.testing.assert_close(lattice.interpolate(plane, inside), expected)
        assert lattice.interpolate(table, inside).shape == (4, 10, 3, 2)

    def test_interpolation_has_gradients(self):
        lattice = PlaceLattice(4)
        table = torch.randn(16, 2, dtype=torch.float64, requires_grad=True)
        x = (0.1 + 0.2 * torch.rand(5, 2, dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lattice.interpolate, (table, x))
        assert torch.autograd.gradgradcheck(lattice.interpolate, (table, x))

    def test_fields_are_gaussian(self):
        lattice = PlaceLattice(40)
        here, there = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.03, 0.04]])
        assert lattice.kernel(here, there, 0.05).item() == pytest.approx(math.exp(-0.5))

    def test_pairs_are_as_if_drawn_and_rejected(self):
        """Places drawn evenly, normal steps rounded to the lattice's, pairs in the square kept."""
        lattice, num = PlaceLattice(4), 400_000
        axis = lattice.near_pairs(0.5)
        pairs = torch.einsum("ac,bd->abcd", axis, axis).reshape(16, 16)
        x = lattice.positions(dtype=torch.float64)
        torch.testing.assert_close(
            pairs / pairs[0, 0], lattice.kernel(x[:, None], x, 0.5), rtol=1e-6, atol=0
        )
        assert pairs.sum().item() == pytest.approx(1)
        torch.testing.assert_close(pairs, pairs.T)
        start = torch.randint(4, (num, 2), generator=seeded())
        step = torch.arange(-3, 4)
        weight = (-(step / 3).square() / (2 * 0.5**2)).exp()
        moves = torch.multinomial(weight, 2 * num, replacement=True, generator=seeded(1)) - 3
        end = start + moves.view(num, 2)
        kept = ((end >= 0) & (end < 4)).all(1)
        number = (start * torch.tensor([4, 1])).sum(1) * 16 + (end * torch.tensor([4, 1])).sum(1)
        seen = torch.bincount(number[kept], minlength=256) / kept.sum()
        deviation = (pairs.flatten() / kept.sum()).sqrt()
        assert ((seen - pairs.flatten()).abs() / deviation).max() < 5


class TestWalks:
    def test_steps_of_lattice_walks_are_even(self):
        lattice = PlaceLattice(40)
        walk = lattice_walks(lattice, 3000, 4, max_step=2.0, generator=seeded())
        steps = (walk.double() * 39).round().diff(dim=1)
        length = steps.norm(dim=2)
        assert length.min() == 1
        assert length.max() == 2
        assert lattice.contains(walk).all()
        inner = ((walk[:, :-1] > 0.06) & (walk[:, :-1] < 0.94)).all(-1)
        _, counts = steps[inner].unique(dim=0, return_counts=True)
        expected = inner.sum() / 12  # steps of length 1, √2 and 2
        assert len(counts) == 12
        assert ((counts - expected) ** 2 / expected).sum() < 31.3  # 0.1 % of χ² with 11 degrees

    def test_free_walks_stay_and_reach(self):
        lattice = PlaceLattice(40)
        walk = free_walks(lattice, 500, 30, generator=seeded())
        length = walk.diff(dim=1).norm(dim=2) * 39
        assert lattice.contains(walk).all()
        assert length.max() <= 3 + 1e-4
        inner = ((walk[:, :-1] > 0.08) & (walk[:, :-1] < 0.92)).all(-1)
        # Even in the disc: the mean square of the length is half of the largest.
        assert length[inner].square().mean().item() == pytest.approx(4.5, rel=0.03)

    def test_generators_govern(self):
        lattice = PlaceLattice(10)
        for walks in (lattice_walks, free_walks):
            one, same, other = (walks(lattice, 4, 6, generator=seeded(n)) for n in (0, 0, 1))
            assert torch.equal(one, same)
            assert not torch.equal(one, other)


class TestRats:
    @pytest.fixture(autouse=True)
    def recording(self):
        if find_spec("ratinabox") is None:  # which is not imported: it asks for more packages
            pytest.skip("without the package ratinabox")

    def test_a_rat_runs_in_its_box(self):
        path = rat_paths(20, 50, interval=0.2, generator=seeded())
        assert path.shape == (20, 51, 2)
        assert PlaceLattice(40).contains(path).all()
        speed = path.diff(dim=1).norm(dim=2) / 0.2
        assert 0.05 < speed.mean() < 0.25  # metres a second
        assert speed.max() < 1.2

    def test_longer_intervals_pass_the_same_places(self):
        fine = rat_paths(3, 100, interval=0.1, generator=seeded())
        torch.testing.assert_close(rat_paths(3, 50, interval=0.2, generator=seeded()), fine[:, ::2])

    def test_parts_that_are_too_long(self):
        with pytest.raises(ValueError, match=r"rat_paths: 6000 steps of 0.2 seconds; expected at"):
            rat_paths(1, 6000)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="rat_paths needs the package ratinabox"):
        rat_paths(1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lattice: PlaceLattice(1), "PlaceLattice: size is 1 and side 1.0"),
        (lambda lattice: PlaceLattice(4, side=0.0), "side 0.0; expected"),
        (lambda lattice: lattice.nearest(torch.zeros(3)), r"nearest: positions are .* \[3\]"),
        (lambda lattice: lattice.contains(torch.zeros(2, dtype=int)), "positions are torch.int64"),
        (lambda lattice: lattice.kernel(torch.zeros(2), torch.zeros(2), 0), "sigma is 0"),
        (lambda lattice: lattice.near_pairs(-1.0), "spread is -1.0"),
        (lambda lattice: lattice.interpolate(torch.zeros(3), torch.zeros(2)), "has 3 rows"),
        (lambda lattice: lattice_walks(lattice, 1, 1, max_step=0.5), "max_step is 0.5"),
        (lambda lattice: free_walks(lattice, 1, 1, max_step=5), "max_step is 5"),
        (lambda lattice: free_walks(lattice, 0, 1), "num is 0"),
        (lambda lattice: rat_paths(1, 1, interval=0), "interval is 0"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(PlaceLattice(4))
