"""Block means and constant blocks: the algebra of a projection and its pseudo-inverse."""

import math

import pytest
import torch

from gencore.nn import block_any, block_expand, block_mean


def matrix(operator, height, width):
    """The matrix of a linear map of images, a column for each of its basis images."""
    basis = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return operator(basis).flatten(1).T


@pytest.mark.parametrize("factor", [2, 3, 4, (2, 5)])
def test_up_is_the_pseudo_inverse_of_down(factor):
    d_h, d_w = factor if isinstance(factor, tuple) else (factor, factor)
    down = matrix(lambda x: block_mean(x, factor), 2 * d_h, 3 * d_w)
    up = matrix(lambda x: block_expand(x, factor), 2, 3)
    torch.testing.assert_close(up, torch.linalg.pinv(down), rtol=0, atol=1e-12)
    torch.testing.assert_close(down.T, up / (d_h * d_w), rtol=0, atol=1e-15)
    projection = up @ down
    torch.testing.assert_close(projection @ projection, projection, rtol=0, atol=1e-14)
    torch.testing.assert_close(projection.T, projection, rtol=0, atol=1e-15)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 16, (7, 64)])
def test_down_undoes_up_to_the_last_bit(factor):
    """A sum of sixteen equal numbers, divided by sixteen, is in general another number."""
    x = torch.randn(4, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    up = block_expand(x, factor)
    assert torch.equal(block_mean(up, factor), x)
    assert torch.equal(block_expand(block_mean(up, factor), factor), up)


def test_the_adjoint_by_autograd_is_up():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 12, dtype=torch.float64, generator=generator).requires_grad_()
    y = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=generator)
    (grad,) = torch.autograd.grad((block_mean(x, 3) * y).sum(), x)
    torch.testing.assert_close(grad, block_expand(y, 3) / 9, rtol=0, atol=1e-15)


def test_the_grids_of_the_source():
    x, sizes = torch.rand(2, 3, 64, 64), []
    mean = x.mean((2, 3), keepdim=True)
    for _ in range(3):
        x = block_mean(x, 4)
        sizes.append(tuple(x.shape[2:]))
    assert sizes == [(16, 16), (4, 4), (1, 1)]
    torch.testing.assert_close(x, mean, rtol=0, atol=1e-6)


def test_a_coarse_mask_covers_every_marked_pixel():
    mask = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[0, 0, 3, 2] = mask[0, 0, 0, 0] = True
    expected = torch.tensor([[True, False, False], [False, True, False]])
    assert torch.equal(block_any(mask, 2)[0, 0], expected)


@pytest.mark.parametrize(
    ("x", "factor", "error", "message"),
    [
        (torch.zeros(1, 1, 4, 6), 4, ValueError, "4x6 have no whole number of blocks of 4x4"),
        (torch.zeros(1, 1, 4, 6), 0, ValueError, "factor is 0; expected 1 or more"),
        (torch.zeros(4, 6), 2, ValueError, r"shape \[4, 6\]; expected \[N, C, H, W\]"),
        (torch.zeros(1, 1, 4, 6), 1.5, TypeError, "factor must be an integer"),
        (torch.zeros(1, 1, 4, 6, dtype=torch.int32), 2, TypeError, "expected floating point"),
    ],
)
def test_wrong_input_is_named(x, factor, error, message):
    with pytest.raises(error, match=message):
        block_mean(x, factor)
    with pytest.raises(TypeError, match=r"block_any: mask is torch\.float32; expected bool"):
        block_any(torch.full((1, 1, 2, 2), math.nan), 2)
