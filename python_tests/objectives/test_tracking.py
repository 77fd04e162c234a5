"""Penalties of residuals and displacements: what they are, and what they do to a minimum."""

import math

import pytest
import torch

from gencore.objectives import displacement_roughness, residual_penalty


def test_frames_of_known_length():
    residuals = torch.zeros(2, 3, 1, 2, 2)
    residuals[0, 0, 0, 0] = torch.tensor([3.0, -4.0])
    residuals[0, 2] = 1.0
    residuals[1, 1] = -2.0
    assert residual_penalty(residuals).tolist() == [5 + 2, 4]
    assert residual_penalty(residuals, "square").tolist() == [25 + 4, 16]


@pytest.mark.parametrize("form", ["norm", "square"])
def test_gradients(form):
    residuals = torch.randn(
        2, 3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: residual_penalty(r, form), residuals)


def test_the_norm_has_a_gradient_of_zero_at_zero():
    residuals = torch.zeros(1, 2, 1, 2, 2, requires_grad=True)
    residual_penalty(residuals).sum().backward()
    assert (residuals.grad == 0).all()


def test_roughness_of_a_ramp_and_of_translations():
    motion = torch.zeros(3, 2, 2, 4, 5, dtype=torch.float64)
    motion[0] = 7.5  # a translation
    motion[1, 0, 0] = 0.5 * torch.arange(5)  # 4 rows of 4 pairs, in a frame
    motion[2, :, 1] = 2.0 * torch.arange(4)[:, None]  # 3 pairs down in 5 columns, in two frames
    found = displacement_roughness(motion)
    assert found.tolist() == [0, 16 * 0.25, 2 * 15 * 4]


def test_roughness_of_a_turn():
    """M = Ap with A = [[0, −w], [w, 0]]: each pair of neighbours differs by w, in one channel."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="ij")
    motion = 0.3 * torch.stack([-rows, columns])[None, None]
    pairs = 5 * 4 + 6 * 3
    assert displacement_roughness(motion).item() == pytest.approx(pairs * 0.09)


def test_a_single_pixel_is_smooth():
    assert displacement_roughness(torch.ones(1, 1, 2, 1, 1)).tolist() == [0]


def test_bad_input():
    with pytest.raises(ValueError, match="residual_penalty: form is 'l1'"):
        residual_penalty(torch.zeros(1, 2, 3), "l1")
    with pytest.raises(ValueError, match=r"residuals have shape \[4, 3\]; expected \[N, T, ...\]"):
        residual_penalty(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"motion has shape \[1, 2, 3, 4, 4\]; expected \[N, T, 2"):
        displacement_roughness(torch.zeros(1, 2, 3, 4, 4))
    assert math.isfinite(residual_penalty(torch.zeros(1, 0, 3)).item())
