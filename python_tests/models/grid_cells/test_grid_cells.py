"""Learned grid cells: losses in closed form on hexagons, constraints, decoding, training."""

import math

import pytest
import torch

from gencore.data import PlaceLattice, free_walks
from gencore.models import (
    GridCells,
    HexagonCode,
    LieTransform,
    NetworkTransform,
    decode_place,
    drop_units,
    integrate_path,
    least_squares_readout,
)


def small(lattice=None, modules=2, size=6, **options):
    lattice = lattice or PlaceLattice(10)
    skew = options.pop("skew", True)
    order = options.pop("order", 2)
    transform = LieTransform(
        modules, size, num_directions=12, unit=0.2, std=0.5, skew=skew, order=order
    )
    options = {"max_step": 0.3, "sigma": 0.15, **options}
    return GridCells(lattice, transform, modules, size, **options)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class TestTransform:
    def test_matrices_between_two_directions_lie_on_a_line(self):
        transform = LieTransform(2, 4, num_directions=8, unit=0.5, std=1.0).double()
        gap = 2 * math.pi / 8
        at = torch.tensor([0.0, gap, 0.25 * gap, 7 * gap, 7.5 * gap, 8 * gap, -0.5 * gap]).double()
        b = transform.generator(at)
        torch.testing.assert_close(b[2], 0.75 * b[0] + 0.25 * b[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b[4], 0.5 * (b[3] + b[0]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b[5], b[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b[6], b[4], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b, -b.mT)
        entries = b[0, 1][torch.tril_indices(4, 4, -1).unbind()]
        torch.testing.assert_close(entries, transform.weight[0, 1] / 0.5)

    def test_matrices_need_not_be_antisymmetric(self):
        transform = LieTransform(1, 3, num_directions=4, skew=False, std=1.0)
        b = transform.generator(torch.tensor([0.0]))[0]
        torch.testing.assert_close(b, transform.weight[0])
        assert (b + b.mT).abs().max() > 0.1

    def test_steps_are_rotations(self):
        transform = LieTransform(3, 5, order=None, std=1.0).double()
        v = torch.randn(4, 7, 3, 5, dtype=torch.float64)
        moved = transform(v, torch.rand(4, 7).double(), 6 * torch.rand(4).double())
        torch.testing.assert_close(moved.norm(dim=-1), v.norm(dim=-1))
        assert (moved - v).norm(dim=-1).min() > 0.01

    def test_gradients(self):
        transform = LieTransform(1, 3, num_directions=4, std=1.0).double()
        v, direction = torch.randn(2, 2, 1, 3, dtype=torch.float64), torch.tensor([0.3, 5.0])
        distance = torch.rand(2, 2, dtype=torch.float64)

        def moved(weight):
            return torch.func.functional_call(
                transform, {"weight": weight}, (v, distance, direction.double())
            )

        assert torch.autograd.gradcheck(moved, (transform.weight,))


class TestConstraints:
    def test_modules_have_length_one_over_root_k(self):
        cells = small(modules=5, size=3)
        with torch.no_grad():
            cells.code.mul_(7)
            cells.readout.sub_(1e-3)
        cells.project_()
        length = cells.code.norm(dim=-1)
        torch.testing.assert_close(length, torch.full_like(length, 5**-0.5))
        between = cells.encode(torch.rand(50, 2)).norm(dim=-1)
        torch.testing.assert_close(between, torch.full_like(between, 5**-0.5))
        assert cells.readout.min() == 0
        assert cells.readout.max() > 0

    def test_a_signed_readout_keeps_its_signs(self):
        cells = small(excitatory=False)
        before = cells.readout.clone()
        cells.project_()
        assert torch.equal(cells.readout, before)
        assert cells.readout.min() < 0


class TestLoss:
    def test_basis_error_by_loops(self):
        """Σ_x' P(x' | x) [A(x, x') − ⟨v(x), u(x')⟩]², of one place."""
        cells = small(PlaceLattice(8), spread=0.3)
        x = cells.lattice.positions()
        with torch.no_grad():
            cells.readout.normal_()
            (found,) = cells.basis_error(torch.tensor([19])).tolist()
            total, weights = 0.0, 0.0
            for j in range(64):
                gap = (x[19] - x[j]).square().sum().item()
                answer = (cells.code[19] * cells.readout[j]).sum().item()
                weight = math.exp(-gap / (2 * 0.3**2))
                total += weight * (math.exp(-gap / (2 * 0.15**2)) - answer) ** 2
                weights += weight
        assert found == pytest.approx(total / weights, rel=1e-4)

    def test_places_are_drawn_as_often_as_they_meet_others(self):
        """With v = u = 0 the error of a place is Σ P(x' | x) A², and its mean that over pairs."""
        cells = small()
        with torch.no_grad():
            cells.readout.zero_()
        x = cells.lattice.positions()
        pairs = cells.lattice.kernel(x[:, None], x, 0.48)
        field = cells.lattice.kernel(x[:, None], x, 0.15)
        expected = ((pairs / pairs.sum()) * field.square()).sum().item()
        found = cells.loss(torch.zeros(200), torch.rand(200, 50, 5), torch.ones(200)).basis
        error = found.std().item() / math.sqrt(200)
        assert found.mean().item() == pytest.approx(expected, abs=4 * error)

    def test_steps_of_hexagons_cost_nothing_but_interpolation(self):
        """With the oracle's vectors and generators L₁ and L₂ vanish with the lattice's spacing."""
        losses = []
        for size in (40, 80):
            code = HexagonCode(PlaceLattice(size), [0.5, 0.7])
            cells = GridCells(PlaceLattice(size), code_transform(code), 2, 6, max_step=0.08)
            with torch.no_grad():
                cells.code.copy_(code.code)
            cells.project_()
            torch.testing.assert_close(cells.code, code.code / math.sqrt(6))
            direction = torch.linspace(0, 6, 20)
            terms = cells.loss(direction, torch.rand(20, 100, 5), direction + 1)
            losses.append([terms.transformation.mean().item(), terms.isotropy.mean().item()])
        assert losses[0][0] < 2e-3
        assert losses[1][0] < losses[0][0] / 8  # of fourth order
        assert losses[0][1] < 1e-4

    def test_isotropy_by_hand(self):
        """Speeds that differ by 2 a metre in each of two modules: L₂ = 2 (2 · 0.3)²."""
        cells = small()
        cells.transform = FixedSpeed()
        terms = cells.loss(torch.full((3,), 1.0), torch.rand(3, 5, 5), torch.full((3,), 3.0))
        torch.testing.assert_close(terms.isotropy, torch.full((3,), 2 * 0.6**2))

    def test_the_sum_has_its_weights(self):
        cells = small()
        samples = torch.rand(4), torch.rand(4, 9, 5), torch.rand(4)
        weights = {"transformation_weight": 0.7, "isotropy_weight": 0.2, "readout_weight": 3.0}
        terms = cells.loss(*samples, **weights)
        size = cells.readout.square().sum() / 100
        expected = terms.basis + 0.7 * terms.transformation + 0.2 * terms.isotropy + 3 * size
        torch.testing.assert_close(terms.loss, expected)

    def test_steps_stay_in_the_square_and_are_even_in_the_disc(self):
        """A transform that records what it is given."""
        cells, seen = small(), {}

        class Recorder(torch.nn.Module):
            def forward(self, v, distance, direction):
                seen["distance"] = distance
                return v

            def derivative(self, v, direction):
                return v

        cells.transform = Recorder()
        encode = cells.encode
        cells.encode = lambda x: seen.setdefault("x", []).append(x) or encode(x)
        direction = 6 * torch.rand(50)
        cells.loss(direction, torch.rand(50, 200, 5), direction)
        start, end = seen["x"]
        assert cells.lattice.contains(start).all()
        assert cells.lattice.contains(end.clamp(-1e-6, 1 + 1e-6)).float().mean() > 0.999
        assert end.min() > -1e-5
        assert end.max() < 1 + 1e-5
        heading = torch.stack([direction.cos(), direction.sin()], 1)[:, None]
        torch.testing.assert_close(end - start, seen["distance"][..., None] * heading)
        assert seen["distance"].square().mean().item() == pytest.approx(0.3**2 / 2, rel=0.03)
        # Even where both ends are inside: the starts' mean is half of what a step leaves.
        free = 1 - (end - start).abs()
        assert ((start - (start - end).clamp(min=0)) / free).mean().item() == pytest.approx(
            0.5, abs=0.02
        )


class FixedSpeed(torch.nn.Module):
    """A speed of θ a metre, whatever the vector."""

    def forward(self, v, distance, direction):
        return v

    def derivative(self, v, direction):
        return torch.ones_like(v) * (direction / math.sqrt(v.shape[-1])).view(-1, 1, 1, 1)


def code_transform(code):
    """The oracle's steps as a module that a model may have."""

    class Steps(torch.nn.Module):
        def forward(self, v, distance, direction):
            return code.step(v, distance, direction)

        def derivative(self, v, direction):
            return code.derivative(v, direction)

    return Steps()


class TestReadout:
    @pytest.fixture
    def hexagons(self):
        return HexagonCode(PlaceLattice(40), [0.3, 0.42], [0.1, 0.4])

    def test_g33_every_place_is_decoded(self, hexagons):
        x = hexagons.lattice.positions()
        place = hexagons.decode(hexagons.encode(x))
        assert torch.equal(place, x)
        assert torch.equal(hexagons.decode(hexagons.encode(place)), place)

    def test_a_learned_code_decodes_its_places_too(self):
        """Vectors of one length: the nearest one to v(x) is itself; between places re-encoding
        settles at once."""
        cells = small(PlaceLattice(12), modules=4)
        x = cells.lattice.positions()
        torch.testing.assert_close(cells.decode(cells.encode(x), by="code"), x)
        once = cells.decode(cells.encode(torch.rand(300, 2)), by="code")
        torch.testing.assert_close(cells.decode(cells.encode(once), by="code"), once)

    def test_the_best_readout_fits_as_well_as_singular_values_allow(self, hexagons):
        """Its error is at least the tail of A's spectrum, and that with A's own vectors."""
        lattice = PlaceLattice(12)
        x = lattice.positions(dtype=torch.float64)
        adjacency = lattice.kernel(x[:, None], x, 0.2)
        left, values, _ = torch.linalg.svd(adjacency)
        tail = values[12:].square().sum()
        for v, factor in ((left[:, :12].view(-1, 2, 6), 1.0), (torch.randn(144, 2, 6), 3.0)):
            u = least_squares_readout(v.double(), adjacency)
            error = (adjacency - v.double().flatten(1) @ u.flatten(1).mT).square().sum()
            assert error >= tail * (1 - 1e-9)
            assert error >= factor * tail * (1 - 1e-9)
            normal = v.double().flatten(1).mT @ (
                v.double().flatten(1) @ u.flatten(1).mT - adjacency
            )
            assert normal.abs().max() < 1e-9
        assert (adjacency - left[:, :12] @ (left[:, :12].mT @ adjacency)).square().sum() == (
            pytest.approx(tail.item())
        )

    def test_a_readout_finds_the_place_whose_cell_answers_most(self):
        """With as many units as places the fields are fitted exactly, and each peaks at its own."""
        lattice = PlaceLattice(8)
        v, x = torch.randn(64, 8, 8, dtype=torch.float64), lattice.positions(dtype=torch.float64)
        adjacency = lattice.kernel(x[:, None], x, 0.1)
        u = least_squares_readout(v, adjacency)
        torch.testing.assert_close(v.flatten(1) @ u.flatten(1).mT, adjacency)
        assert decode_place(v, u).tolist() == list(range(64))

    def test_of_equal_answers_the_first_counts(self):
        assert decode_place(torch.ones(1, 2), torch.ones(4, 2)).item() == 0

    def test_responses_are_inner_products(self):
        cells = small()
        v = torch.randn(3, 2, 6)
        expected = torch.einsum("nkm,pkm->np", v, cells.readout)
        torch.testing.assert_close(cells.respond(v), expected)
        best = cells.lattice.positions()[expected.argmax(1)]
        torch.testing.assert_close(cells.decode(v), best)


@pytest.fixture(scope="module")
def trained():
    """A few hundred steps on a coarse lattice: the cells, and measures before and after."""
    torch.manual_seed(0)
    transform = LieTransform(6, 10, num_directions=36, unit=0.15)
    cells = GridCells(PlaceLattice(20), transform, 6, 10, sigma=0.12, max_step=0.15)
    first = measured(cells)
    optimizer = torch.optim.Adam(cells.parameters(), 0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        direction = (torch.arange(24) + torch.rand(())) * (2 * math.pi / 24)
        terms = cells.loss(
            direction, torch.rand(24, 6, 5), 2 * math.pi * torch.rand(24),
            transformation_weight=0.03, isotropy_weight=0.03, readout_weight=1e-5,
        )  # fmt: skip
        optimizer.zero_grad()
        terms.loss.mean().backward()
        optimizer.step()
        scheduler.step()
        cells.project_()
    return cells, first, measured(cells)


@torch.no_grad()
def measured(cells):
    generator = torch.Generator().manual_seed(9)
    uniform = torch.rand(24, 50, 5, generator=generator)
    direction = 6 * torch.rand(24, generator=generator)
    terms = cells.loss(direction, uniform, direction.flip(0))
    metric = cells.metric(torch.linspace(0, 6, 5)).mean((0, 1))
    return terms.basis.mean().item(), terms.transformation.mean().item(), metric


def test_g34_losses_fall_and_metrics_rise(trained):
    cells, (basis, transformation, metric), last = trained
    assert last[0] < basis / 3
    assert last[1] < transformation / 10
    assert (last[2] > 3 * metric).all()
    length = cells.code.norm(dim=-1)
    torch.testing.assert_close(length, torch.full_like(length, 6**-0.5))
    assert cells.readout.min() >= 0


def test_g34_paths_are_followed_without_re_encoding(trained):
    """Fifty steps of up to 15 cm, off the lattice, whose spacing alone costs 2 cm."""
    cells, *_ = trained
    walk = free_walks(
        cells.lattice, 200, 50, max_step=2.85, generator=torch.Generator().manual_seed(3)
    )
    error = (integrate_path(cells, walk)[:, -1] - walk[:, -1]).norm(dim=-1).mean()
    stayed = (walk[:, 0] - walk[:, -1]).norm(dim=-1).mean()
    assert error < 0.06
    assert error < stayed / 5


def test_a_network_learns_steps_too():
    lattice = PlaceLattice(10)
    cells = GridCells(lattice, NetworkTransform(2, 6, unit=0.2), 2, 6, sigma=0.2, max_step=0.2)
    optimizer = torch.optim.Adam(cells.parameters(), 0.02)
    losses = []
    for _ in range(100):
        angle = 6.28 * torch.rand(12)
        terms = cells.loss(angle, torch.rand(12, 4, 5), angle.flip(0))
        optimizer.zero_grad()
        terms.loss.mean().backward()
        optimizer.step()
        cells.project_()
        losses.append(terms.transformation.mean().item())
    assert sum(losses[-10:]) < sum(losses[:10]) / 10


def test_what_does_not_fit():
    lattice, transform = PlaceLattice(5), LieTransform(1, 2, num_directions=4)
    with pytest.raises(ValueError, match=r"GridCells: sigma is 0, spread 0.48, max_step 0.75"):
        GridCells(lattice, transform, 1, 2, sigma=0)
    with pytest.raises(ValueError, match=r"steps below the square's side of 1.0"):
        GridCells(lattice, transform, 1, 2, max_step=1.0)
    cells = GridCells(lattice, transform, 1, 2)
    with pytest.raises(ValueError, match=r"uniform has shape \[2, 3, 4\] for 2 directions"):
        cells.loss(torch.zeros(2), torch.zeros(2, 3, 4), torch.zeros(2))
    with pytest.raises(ValueError, match=r"the shapes \[2\] and \[3\]"):
        cells.loss(torch.zeros(2), torch.zeros(2, 3, 5), torch.zeros(3))
    with pytest.raises(ValueError, match="by is 'vote'; expected one of readout, code"):
        cells.decode(torch.zeros(1, 1, 2), by="vote")
    with pytest.raises(ValueError, match=r"decode_place: v has shape \[1, 3\]"):
        decode_place(torch.zeros(1, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"adjacency has shape \[3, 3\]; expected \[4, 4\]"):
        least_squares_readout(torch.zeros(4, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="LieTransform: order is 0"):
        LieTransform(1, 2, order=0)
    with pytest.raises(ValueError, match="LieTransform: unit is -1"):
        LieTransform(1, 2, unit=-1)
    with pytest.raises(ValueError, match="drop_units: rate is 2"):
        drop_units(torch.zeros(1, 1, 1), 2)
    with pytest.raises(ValueError, match=r"integrate_path: path has shape \[2, 1, 2\]"):
        integrate_path(cells, torch.zeros(2, 1, 2))
