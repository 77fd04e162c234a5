"""Features of a diffusion's levels."""

import math

import pytest
import torch

from gencore.nn import TimeEmbedding


def test_sines_and_cosines_by_hand() -> None:
    found = TimeEmbedding(6)(torch.tensor([0, 3]))
    frequencies = [1.0, 1e-2, 1e-4]
    expected = [math.sin(3 * f) for f in frequencies] + [math.cos(3 * f) for f in frequencies]
    torch.testing.assert_close(found, torch.tensor([[0.0] * 3 + [1.0] * 3, expected]))


def test_levels_are_told_apart() -> None:
    features = TimeEmbedding(16)(torch.arange(1000))
    assert torch.cdist(features, features).fill_diagonal_(1.0).min() > 0.3


@pytest.mark.parametrize("num_features", [2, 7])
def test_bad_input(num_features: int) -> None:
    with pytest.raises(ValueError, match="even number from 4 on"):
        TimeEmbedding(num_features)
