"""Paths by the hexagons: no error at all, that of the series, and that of rounding."""

import math

import pytest
import torch

from gencore.data import PlaceLattice, free_walks, lattice_walks
from gencore.models import HexagonCode, drop_units, integrate_path

SPACINGS = (0.3, 0.42, 0.59)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def code():
    return HexagonCode(PlaceLattice(40), SPACINGS, [0.1, 0.6, 0.3])


def errors(code, path, **options):
    return (integrate_path(code, path, **options) - path[:, 1:]).norm(dim=-1)


@pytest.mark.parametrize("reencode", [False, True])
def test_g36_lattice_paths_have_no_error(code, reencode):
    path = lattice_walks(code.lattice, 50, 200, generator=seeded())
    assert errors(code, path, reencode=reencode).max() == 0


def test_g36_rounding_is_a_random_walk():
    """With re-encoding each free step is rounded to a lattice of spacing h: h √(T/6)."""
    lattice = PlaceLattice(60, side=3.0)
    code, steps = HexagonCode(lattice, [0.6, 0.85, 1.19, 2.41], [0.1, 0.6, 0.3, 0.8]), 20
    walk = free_walks(lattice, 1500, steps, generator=seeded())
    inner = ((walk > 0.3) & (walk < 2.7)).all(-1).all(-1)  # the border would round one way
    walk, num = walk[inner], int(inner.sum())
    assert num > 500
    found = errors(code, walk, reencode=True)
    for time in (1, 5, 20):
        rms = found[:, time - 1].square().mean().sqrt().item()
        # A mean square of nearly exponential numbers: to 1/√num, its root to half of that.
        assert rms == pytest.approx(lattice.spacing * math.sqrt(time / 6), rel=2 / math.sqrt(num))
    without = errors(code, walk)[:, -1].square().mean().sqrt().item()
    assert without == pytest.approx(lattice.spacing / math.sqrt(6), rel=0.05)


def test_g36_the_series_drifts_by_its_law():
    """Along a line each wave turns by φ = ⟨a, q⟩ Δr a step, and its second order by φ³/6 more,
    by (1 + φ⁴/4)^½ longer."""
    code = HexagonCode(PlaceLattice(40), [0.5], order=2, dtype=torch.float64)
    distance, steps = 0.01, 60
    step = torch.tensor([[distance], [0.3]], dtype=torch.float64).unbind()
    v = code.encode(torch.zeros(1, 2, dtype=torch.float64))
    for _ in range(steps):
        v = code.step(v, *step)
    complex_v = torch.complex(v[..., :3], v[..., 3:])
    wave = (complex_v @ code.mixing.conj())[0, 0]  # U* v, the three plane waves
    heading = torch.tensor([math.cos(0.3), math.sin(0.3)], dtype=torch.float64)
    phi = code.waves[0] @ heading * distance
    torch.testing.assert_close(wave.abs(), (1 + phi**4 / 4) ** (steps / 2), rtol=1e-6, atol=0)
    drift = (wave / torch.polar(torch.ones_like(phi), steps * phi)).angle()
    exact = steps * (torch.atan2(phi, 1 - phi**2 / 2) - phi)
    torch.testing.assert_close(drift, exact, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(drift, steps * phi**3 / 6, rtol=0.05, atol=1e-6)


def test_noise_is_taken_off_by_re_encoding(code):
    """Errors grow with noise; re-encoding on a lattice removes it while it is small."""
    path = lattice_walks(code.lattice, 40, 30, generator=seeded())

    def last(**options):
        return errors(code, path, generator=seeded(5), **options)[:, -1].mean().item()

    assert last(alpha=0.1, reencode=True) == 0
    quiet, louder, loud = (last(alpha=alpha) for alpha in (0.02, 0.3, 1.0))
    assert quiet < louder < loud
    assert last(alpha=0.0) == 0
    assert last(dropout=0.05) < last(dropout=0.5)


def test_dropped_units():
    v = torch.ones(2000, 2, 5)
    dropped = drop_units(v, 0.3, generator=seeded())
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert dropped.mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 20_000))
    assert torch.equal(drop_units(v, 0.0), v)


def test_one_path_and_other_dtypes():
    code = HexagonCode(PlaceLattice(20), [0.4, 0.57], dtype=torch.float64)
    path = lattice_walks(code.lattice, 1, 1, generator=seeded()).double()
    found = integrate_path(code, path)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, path[:, 1:], rtol=0, atol=1e-7)
