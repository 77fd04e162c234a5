"""anchor_warp: convolution patches, shifts, ramps, derivatives, errors."""

import pytest
import torch
from testing.host_executor import DTYPES
from torch.nn import functional

from gencore.ops import anchor_warp


def maps(*shape, dtype=torch.float64, device="cpu", seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def transforms(x, scale=1.0, translation=(0.0, 0.0)):
    n, _, height, width = x.shape
    matrix = torch.zeros(2, 3, dtype=x.dtype, device=x.device)
    matrix[0, 0] = matrix[1, 1] = scale
    matrix[:, 2] = torch.tensor(translation)
    return matrix.expand(n, height, width, 2, 3)


def unfolded(x, dilation=1):
    """The patches that a convolution sees, as torch finds them."""
    n, channels, height, width = x.shape
    columns = functional.unfold(x, 3, dilation=dilation, padding=dilation)
    return columns.view(n, channels, 3, 3, height, width)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_multiples_of_the_identity_are_convolutions(scale, dtype, device):
    x = maps(2, 3, 6, 7, dtype=dtype, device=device)
    patches = anchor_warp(x, transforms(x, scale))
    assert patches.shape == (2, 3, 3, 3, 6, 7)
    assert torch.equal(patches, unfolded(x, scale))


def test_a_filter_of_the_patches_is_a_convolution(device):
    x, weight = maps(2, 3, 6, 7, device=device), maps(4, 3, 3, 3, device=device, seed=3)
    filtered = torch.einsum("ncijhw,ocij->nohw", anchor_warp(x, transforms(x)), weight)
    expected = functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(filtered, expected, rtol=1e-13, atol=1e-13)


def test_translations_by_whole_pixels_are_shifts(device):
    x = maps(1, 2, 8, 9, device=device)
    patches = anchor_warp(x, transforms(x, translation=(2.0, -1.0)))
    # The patch of (column, row) is that of (column + 2, row − 1); the box around it has to fit.
    expected = unfolded(x)[..., :-1, 2:]
    assert torch.equal(patches[..., 1:, :-2], expected)


def test_each_position_has_a_transform_of_its_own(device):
    x = maps(1, 2, 6, 7, device=device)
    each = transforms(x).clone()
    each[0, 2, 3] = torch.tensor([[0.0, 1, 0], [1, 0, 0]])  # transposed
    patches, expected = anchor_warp(x, each), unfolded(x).clone()
    expected[..., 2, 3] = expected[..., 2, 3].mT.clone()
    assert torch.equal(patches, expected)


def test_a_constant_map_does_not_see_the_transform(device):
    x = torch.full((1, 2, 9, 10), 0.3, device=device)
    each = transforms(x) + maps(1, 9, 10, 2, 3, dtype=x.dtype, device=device).clamp(-1, 1) / 3
    inner = anchor_warp(x, each)[..., 3:-3, 3:-3]  # a point is at most 1 + 3/3 pixels away
    assert torch.equal(inner, torch.full_like(inner, 0.3))


def test_a_linear_ramp_and_its_slope_are_exact(device):
    """x(q) = 3 column − 2 row, so that ∂y/∂A is 3 o and −2 o, and ∂y/∂t 3 and −2."""
    row = torch.arange(10.0, dtype=torch.float64, device=device)[:, None]
    column = torch.arange(11.0, dtype=torch.float64, device=device)
    x = (3 * column - 2 * row)[None, None]
    entries = torch.tensor([[1.1, -0.2, 0.3], [0.4, 0.9, -0.45]], dtype=torch.float64)
    matrix = entries.to(device).expand(1, 10, 11, 2, 3).clone().requires_grad_()
    patches = anchor_warp(x, matrix)
    steps = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    across, down = steps.expand(3, 3), steps[:, None].expand(3, 3)
    points = torch.stack([across, down, torch.ones(3, 3)])  # o and 1
    moved = torch.einsum("ak,kij->aij", entries, points)
    ours = patches[0, 0, :, :, 4, 5].cpu()
    expected = 3 * (5 + moved[0]) - 2 * (4 + moved[1])
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)
    weights = maps(3, 3, device=device)
    (grad,) = torch.autograd.grad((patches[0, 0, :, :, 4, 5] * weights).sum(), matrix)
    slope = torch.einsum("ij,kij->k", weights.cpu(), points)
    expected_grad = torch.zeros_like(grad)
    expected_grad[0, 4, 5] = torch.stack([3 * slope, -2 * slope])
    torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-12)


def test_derivatives(device):
    x = maps(2, 2, 3, 4, device=device).requires_grad_()
    # Points at least a tenth off the grid, where the interpolant has kinks.
    matrix = torch.tensor([[1.05, 0.1, 0.5], [-0.1, 1.05, 0.5]], dtype=torch.float64)
    noise = 0.05 * maps(2, 3, 4, 2, 3, device=device).clamp(-1, 1)
    leaves = (x, (matrix.to(device) + noise).requires_grad_())
    assert torch.autograd.gradcheck(anchor_warp, leaves)
    assert torch.autograd.gradgradcheck(anchor_warp, leaves)


X, EACH = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": X[0]}, ValueError, r"features has shape \[3, 4, 5\]"),
        ({"transforms": EACH[:1]}, ValueError, r"transforms has shape .*, expected \[2, 4, 5, 2,"),
        ({"transforms": EACH.double()}, TypeError, "transforms is torch.float64, expected torch.f"),
        ({"transforms": EACH.to("meta")}, ValueError, "transforms is on meta, features on cpu"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=f"^anchor_warp: {message}"):
        anchor_warp(**{"features": X, "transforms": EACH, **arguments})
