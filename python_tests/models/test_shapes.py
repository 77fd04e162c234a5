"""Shapes of networks without their numbers."""

import pytest
import torch
from torch import nn

from gencore.models.shapes import output_shape
from gencore.nn.parametrized import spectral_norm


def test_a_network_is_left_as_it_is():
    network = nn.Sequential(
        spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten()
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert output_shape("test", "it", network, (2, 1, 5, 5)) == (2, 36)
    assert torch.get_rng_state().equal(state)
    assert all(part.training for part in network.modules())
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_networks_without_numbers():
    assert output_shape("test", "it", nn.LazyLinear(4), (2, 3)) is None
    assert output_shape("test", "it", nn.Linear(3, 4, device="meta"), (2, 3)) is None


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"test: the decoder does not take \[2, 3\]"):
        output_shape("test", "the decoder", nn.Linear(4, 5), (2, 3))
