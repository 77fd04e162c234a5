"""Cells that learn from moved noise: pairs in quadrature, displacements, and M(0) = I."""

import math
from typing import NamedTuple

import torch

from gencore.metrics import endpoint_error, pair_coherence, pair_phase
from gencore.models import SimpleCells, TableMotion, TightFrame

SIZE = 16


class Learned(NamedTuple):
    """What a training came to."""

    error: float
    chance: float
    phase: torch.Tensor
    from_identity: float
    reconstruction: float


def draw_pairs(num, lattice, generator):
    """Periodic images of spectrum 1/f without a mean, and each moved by a displacement (x, y) of
    the lattice, between pixels too; their variance is 1."""
    down, right = torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)
    frequency = torch.hypot(down, right)
    amplitude = torch.where(frequency > 0, 1 / frequency.clamp(min=1e-3), 0.0)
    # These have no sine, and no displacement between pixels.
    amplitude[SIZE // 2] = amplitude[:, -1] = 0
    noise = torch.randn(num, 1, SIZE, SIZE, generator=generator)
    spectrum = amplitude * torch.fft.rfft2(noise)
    moved = lattice[torch.randint(len(lattice), (num,), generator=generator)]
    turn = 2 * math.pi * (right * moved[:, 0, None, None] + down * moved[:, 1, None, None])
    first = torch.fft.irfft2(spectrum, s=(SIZE, SIZE))
    second = torch.fft.irfft2(spectrum * torch.exp(1j * turn)[:, None], s=(SIZE, SIZE))
    return first / first.std(), second / first.std(), moved


def learn(*, max_displacement, num_steps, learning_rate, batch_size):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    cells = SimpleCells(
        TightFrame(10, 2, patch_size=8, stride=4, boundary="circular"),
        TableMotion(10, 2, max_displacement=max_displacement, step=0.5),
    )
    lattice = cells.motion.displacements
    optimizer = torch.optim.Adam(cells.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, num_steps)

    def at_patches(moved):
        return moved[:, :, None, None].expand(-1, -1, SIZE // 4, SIZE // 4).contiguous()

    for _ in range(num_steps):
        first, second, moved = draw_pairs(batch_size, lattice, generator)
        loss = cells(first, second, at_patches(moved))
        optimizer.zero_grad()
        (loss.rotation + loss.reconstruction).mean().backward()
        optimizer.step()
        schedule.step()

    with torch.no_grad():
        first, second, moved = draw_pairs(256, lattice, generator)
        found = cells.infer(first, second)
        filters = cells.frame.weight[:, :, 0]
        coherent = pair_coherence(filters) > 0.5
        return Learned(
            endpoint_error(found, at_patches(moved)).mean().item(),
            torch.cdist(lattice, lattice).mean().item(),  # of two drawn independently
            pair_phase(filters).rad2deg()[coherent],
            (cells.motion(torch.zeros(2)) - torch.eye(2)).abs().max().item(),
            (cells.frame.reconstruction_loss(first) / SIZE**2).mean().item(),
        )


def test_v1_cells_learn_quadrature_and_displacements():
    """400 steps, three seconds."""
    learned = learn(max_displacement=1.0, num_steps=400, learning_rate=2e-2, batch_size=32)
    assert learned.error < learned.chance / 3
    assert len(learned.phase) >= 6
    # Of unrelated pairs it is 45.
    assert (learned.phase - 90).abs().mean() < 15
    assert learned.from_identity < 0.25
    assert learned.reconstruction < 0.1
