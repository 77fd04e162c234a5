"""Regions that a network transforms: what they start as, and what they can learn."""

import pytest
import torch
from torch.nn import functional

from gencore.nn import SpatialTransformerRegions


def test_at_first_it_is_a_dilated_convolution():
    torch.manual_seed(0)
    layer = SpatialTransformerRegions(3, 5, hidden=4).double()
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    weight, bias = layer.filter.weight, layer.filter.bias
    expected = functional.conv2d(x, weight, bias, padding=2, dilation=2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        layer.localisation[-1].bias.copy_(torch.eye(2, 3).flatten())
    expected = functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_a_displaced_region_is_found_by_descent():
    """The target is the same filter's convolution, half a pixel to the right of where it is."""
    torch.manual_seed(0)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    x = torch.sin(0.5 * column + 0.2 * row)[None, None]
    layer = SpatialTransformerRegions(1, 1).requires_grad_(False)
    bias = layer.localisation[-1].bias.requires_grad_()
    shifted = torch.sin(0.5 * (column + 0.5) + 0.2 * row)[None, None]
    target = functional.conv2d(shifted, layer.filter.weight, layer.filter.bias, dilation=2)
    optimizer = torch.optim.Adam([bias], 0.02)
    for _ in range(150):
        loss = (layer(x)[..., 2:-2, 2:-2] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wanted = torch.tensor([[2.0, 0.0, 0.5], [0.0, 2.0, 0.0]])
    # Only 0.5 t₁ + 0.2 t₂ shows along the wave, and the interpolant is not quite the wave.
    move = layer.transforms(x)[0, 6, 6] - wanted
    assert abs(0.5 * move[0, 2] + 0.2 * move[1, 2]) < 0.03


@pytest.mark.parametrize("sizes", [{"channels": 0}, {"channels": 2, "hidden": 0}])
def test_sizes_are_positive(sizes):
    with pytest.raises(ValueError, match="SpatialTransformerRegions"):
        SpatialTransformerRegions(**sizes)
