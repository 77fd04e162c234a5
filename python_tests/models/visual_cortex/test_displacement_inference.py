"""Displacement fields by descent: the objective of learning without them, and what it finds."""

import pytest
import torch

from gencore.data import draw_deformations
from gencore.metrics import endpoint_error
from gencore.models import (
    DisplacementObjective,
    SimpleCells,
    TaylorMotion,
    TightFrame,
    descend_displacements,
    fourier_cells,
)
from gencore.ops import warp


def deformed(num, *, max_displacement, size=64):
    """Pairs whose fields are bilinear between patches, and the fields there."""
    frame = TightFrame(40, 2)
    noise = torch.rand(num, 1, size + 6, size + 6, generator=torch.Generator().manual_seed(0))
    first = torch.nn.functional.avg_pool2d(noise, 7, 1) * 7
    smooth = draw_deformations(
        num, size, size, max_displacement=max_displacement,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    truth = frame.interior(frame.at_centres(smooth))
    second = warp(first, frame.to_pixels(truth, size, size), padding="border")
    return first, second, truth


def fourier(size=16):
    """Cells in closed form whose patches are those of images that end."""
    cells = fourier_cells(size, size // 2)
    cells.frame.boundary = "zeros"
    return cells


def test_the_truth_costs_less_than_nothing_and_than_its_opposite():
    first, second, truth = deformed(8, max_displacement=4.0)
    objective = DisplacementObjective(fourier(), first, second)
    with torch.no_grad():
        at_truth, at_zero, opposite = (objective(factor * truth) for factor in (1.0, 0.0, -1.0))
    assert (at_truth < at_zero).all()
    assert at_truth.mean() < 0.5 * at_zero.mean()
    assert (at_zero < opposite).all()


def test_the_truth_has_no_error_of_warping():
    first, second, truth = deformed(3, max_displacement=4.0)
    cells = fourier()
    without, with_it = (
        DisplacementObjective(cells, first, second, warping=weight)(truth) for weight in (0.0, 50.0)
    )
    torch.testing.assert_close(with_it, without)


def test_terms_in_closed_form():
    """Cells that see nothing, a field that grows from patch to patch, and an image that is dark."""
    cells = SimpleCells(TightFrame(40, 2), TaylorMotion(40, 2))
    torch.nn.init.zeros_(cells.frame.weight)
    second = torch.full((2, 1, 32, 32), 0.5)
    field = torch.zeros(2, 2, 3, 3)
    field[1, 0] = torch.arange(3.0)  # by 1 to the right
    field[1, 1] = 2 * torch.arange(3.0)[:, None]
    objective = DisplacementObjective(
        cells, torch.zeros_like(second), second, smoothness=10.0, warping=3.0
    )
    dark = 3 * 0.25 * 16 * 16  # between the middles of the outermost patches
    expected = torch.tensor([dark, dark + 10 * (6 * 1 + 6 * 4)])
    torch.testing.assert_close(objective(field), expected)


def test_descent_finds_small_displacements():
    first, second, truth = deformed(4, max_displacement=2.0)
    objective = DisplacementObjective(fourier(), first, second, smoothness=0.05)
    start = 0.01 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    found = descend_displacements(objective, start, num_steps=60)
    error = endpoint_error(found, truth).mean()
    assert not found.requires_grad
    assert error < 0.4 * endpoint_error(start, truth).mean()
    again = descend_displacements(objective, found, num_steps=5)  # an earlier visit's
    assert endpoint_error(again, truth).mean() < 1.5 * error


def test_what_does_not_fit():
    x = torch.zeros(1, 1, 32, 32)
    with pytest.raises(ValueError, match=r"second \[1, 1, 32, 24\]; they must be equal"):
        DisplacementObjective(fourier(), x, x[..., :24])
    with pytest.raises(ValueError, match="smoothness is -1 and warping 1"):
        DisplacementObjective(fourier(), x, x, smoothness=-1)
    objective = DisplacementObjective(fourier(), x, x)
    with pytest.raises(ValueError, match=r"displacement has shape \[1, 2, 9, 9\]"):
        objective(torch.zeros(1, 2, 9, 9))
