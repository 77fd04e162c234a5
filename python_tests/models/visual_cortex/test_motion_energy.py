"""Complex cells and motion energy: no phase, and one velocity that is preferred."""

import math

import pytest
import torch

from gencore.models import (
    RotationMotion,
    align_step,
    complex_energy,
    displacement_lattice,
    fourier_cells,
    motion_costs,
    motion_energy,
)

DOUBLE = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_the_recurrence_is_the_sum_of_powers():
    """(6.12) by matrix powers, of matrices that are not orthogonal."""
    v, matrices = normal(2, 4, 3, 2, 2, 3), normal(5, 3, 2, 2, seed=1)
    u = sum(
        torch.einsum("dkij,nkjhw->ndkihw", torch.linalg.matrix_power(matrices, 3 - i), v[:, i])
        for i in range(4)
    )
    state = None
    for i in range(4):
        state = align_step(state, v[:, i], matrices)
    torch.testing.assert_close(state, u)
    torch.testing.assert_close(motion_energy(v, matrices), u.square().sum((2, 3)))


def test_three_criteria_agree_for_rotations():
    """Least distance, largest inner product and largest energy of two frames."""
    v = normal(3, 2, 6, 2, 4, 4)
    lattice = displacement_lattice(3.0, 0.5).double()
    with torch.no_grad():
        matrices = RotationMotion(normal(6, 2, seed=1))(lattice)
    predicted = torch.einsum("dkij,nkjhw->ndkihw", matrices, v[:, 0])
    product = (predicted * v[:, 1].unsqueeze(1)).sum((2, 3))
    best = motion_costs(v[:, 1], v[:, 0], matrices).argmin(1)
    assert torch.equal(best, product.argmax(1))
    assert torch.equal(best, motion_energy(v, matrices).argmax(1))


def test_a_velocity_has_the_largest_energy():
    """A periodic image that goes on and on by (1, −2), seen in five frames."""
    cells = fourier_cells(8, 4, dtype=DOUBLE)
    x = normal(1, 1, 8, 8).tile(1, 1, 2, 2)
    lattice = displacement_lattice(3.0, 1.0).double()
    with torch.no_grad():
        v = torch.stack([cells.frame(x.roll((2 * t, -t), (2, 3))) for t in range(5)], 1)
        energy = motion_energy(v, cells.motion(lattice))
    found = lattice[energy.argmax(1)]
    assert (found == torch.tensor([1.0, -2.0], dtype=DOUBLE)).all()
    # All frames are aligned: u is five times as long as v.
    torch.testing.assert_close(energy.amax(1), 25 * v[:, 0].square().sum((1, 2)))


def test_a_complex_cell_does_not_see_the_phase():
    """Of a grating of the pair's own frequency, and its simple cells do."""
    cells = fourier_cells(16, 8, dtype=DOUBLE)
    k = 30
    omega = cells.motion.frequencies[k].detach()
    row, column = torch.meshgrid(*[torch.arange(16, dtype=DOUBLE)] * 2, indexing="ij")
    phases = torch.linspace(0, 2 * math.pi, 17, dtype=DOUBLE).view(-1, 1, 1)
    gratings = torch.cos(omega[0] * column + omega[1] * row + phases)[:, None]
    with torch.no_grad():
        v = cells.frame(gratings)[:, :, :, :1, :1]
    energy = complex_energy(v)[:, k]
    torch.testing.assert_close(energy, energy[:1].expand_as(energy))
    assert energy[0] > 0.1
    assert v[:, k, 0].max() > 0.9 * energy[0].sqrt()
    assert v[:, k, 0].min() < -0.9 * energy[0].sqrt()


def test_what_does_not_fit():
    v, matrices = torch.zeros(1, 3, 2, 4, 4), torch.zeros(5, 3, 2, 2)
    with pytest.raises(ValueError, match=r"align_step: v has shape \[1, 3, 2, 4, 4\] and matrices"):
        align_step(None, v, matrices[:, :2])
    with pytest.raises(ValueError, match="align_step: state has shape"):
        align_step(torch.zeros(1, 4, 3, 2, 4, 4), v, matrices)
    with pytest.raises(ValueError, match=r"motion_energy: v has shape \[1, 3, 2, 4, 4\]"):
        motion_energy(v, matrices)
    with pytest.raises(ValueError, match=r"complex_energy: v has shape \[3, 2\]"):
        complex_energy(torch.zeros(3, 2))
