"""affine_warp: identity, turns, translations, derivatives, errors."""

import math

import pytest
import torch
from testing.host_executor import DTYPES

from gencore.ops import affine_warp

PADDINGS = ("zeros", "border")


def images(*shape, dtype=torch.float64, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(device, dtype)


def matrices(entries, num=1, dtype=torch.float64, device="cpu"):
    return torch.tensor(entries, dtype=dtype, device=device).expand(num, 2, 3)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_identity_changes_no_bit(padding, dtype, device):
    x = images(2, 3, 37, 50, dtype=dtype, device=device)
    identity = torch.eye(2, 3, device=device).expand(2, 2, 3)
    assert torch.equal(affine_warp(x, identity, padding=padding), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_translations_by_whole_pixels_are_shifts(dtype, device):
    x = images(2, 3, 7, 8, dtype=dtype, device=device)
    y = affine_warp(x, matrices([[1.0, 0, 2], [0, 1, -3]], 2, dtype, device))
    assert torch.equal(y[:, :, 3:, :-2], x[:, :, :-3, 2:])
    assert not y[:, :, :3].any()
    assert not y[..., -2:].any()


@pytest.mark.parametrize("shape", [(6, 6), (7, 7)])
def test_turns_and_flips_are_those_of_the_pixel_grid(shape, device):
    x = images(1, 2, *shape, device=device)
    for entries, expected in (
        ([[0.0, -1, 0], [1, 0, 0]], x.rot90(1, (2, 3))),
        ([[-1.0, 0, 0], [0, 1, 0]], x.flip(3)),
        ([[0.0, 1, 0], [1, 0, 0]], x.mT),
    ):
        assert torch.equal(affine_warp(x, matrices(entries, device=device)), expected)


def test_a_linear_ramp_is_mapped_exactly(device):
    """x(q) = 3 column − 2 row + 1, of places about the centre."""
    row, column = torch.meshgrid(
        torch.arange(9.0, dtype=torch.float64, device=device) - 4,
        torch.arange(12.0, dtype=torch.float64, device=device) - 5.5,
        indexing="ij",
    )
    (a, b, t), (c, d, s) = entries = [[0.8, -0.1, 0.5], [0.2, 0.7, -0.3]]
    x = (3 * column - 2 * row + 1)[None, None]
    y = affine_warp(x, matrices(entries, device=device))[0, 0]
    expected = 3 * (a * column + b * row + t) - 2 * (c * column + d * row + s) + 1
    torch.testing.assert_close(y[2:-2, 2:-2], expected[2:-2, 2:-2], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", PADDINGS)
def test_derivatives(padding, device):
    # An angle at which no sample is on the grid, where the interpolant has kinks.
    turn = 0.4
    entries = [[math.cos(turn), -math.sin(turn), 0.13], [math.sin(turn), math.cos(turn), -0.21]]
    x = images(2, 2, 4, 5, device=device).requires_grad_()
    matrix = matrices(entries, 2, device=device).clone().requires_grad_()

    def function(x, matrix):
        return affine_warp(x, matrix, padding=padding)

    assert torch.autograd.gradcheck(function, (x, matrix))
    assert torch.autograd.gradgradcheck(function, (x, matrix))


X, MATRIX = torch.zeros(2, 3, 4, 5), torch.eye(2, 3).expand(2, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x has shape \[3, 4, 5\]"),
        ({"matrix": MATRIX[:1]}, ValueError, r"matrix has shape \[1, 2, 3\], expected \[2, 2, 3\]"),
        ({"matrix": MATRIX.half()}, TypeError, "matrix is torch.float16, expected float32"),
        ({"matrix": MATRIX.to("meta")}, ValueError, "matrix is on meta, x on cpu"),
        ({"padding": "reflect"}, ValueError, "padding is 'reflect'"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=f"^affine_warp: {message}"):
        affine_warp(**{"x": X, "matrix": MATRIX, **arguments})
