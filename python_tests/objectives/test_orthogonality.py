"""The penalty of filters that are not orthogonal: by loops, its zeros, its slope."""

import pytest
import torch
from torch import nn

from gencore.nn import ConditionalWeightNorm
from gencore.objectives import orthogonality_penalty


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4),
        nn.Conv2d(4, 2, 3),
        nn.ReLU(),
        ConditionalWeightNorm(nn.ConvTranspose2d(2, 3, 2), 5),
    ).double()


def test_it_is_the_equation():
    layers = network()
    filters = [
        [layers[0].weight[o].flatten() for o in range(4)],
        [layers[1].weight[o].flatten() for o in range(2)],
        [layers[3].layer.weight[:, o].flatten() for o in range(3)],
    ]
    expected = sum(
        (a @ b) ** 2
        for of_layer in filters
        for m, a in enumerate(of_layer)
        for n, b in enumerate(of_layer)
        if m != n
    )
    torch.testing.assert_close(orthogonality_penalty(layers), expected)


def test_orthogonal_filters_of_any_length_have_none():
    layer = nn.Linear(6, 4)
    nn.init.orthogonal_(layer.weight)
    layer.weight.data *= torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
    assert orthogonality_penalty(layer) < 1e-9


class Penalty(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self):
        return orthogonality_penalty(self.network)


def test_its_slope():
    module = Penalty(nn.Linear(3, 3).double())

    def penalty(weight):
        return torch.func.functional_call(module, {"network.weight": weight}, ())

    assert torch.autograd.gradcheck(penalty, (module.network.weight,))


def test_a_network_without_filters():
    with pytest.raises(ValueError, match="the network has no linear layers and no convolutions"):
        orthogonality_penalty(nn.ReLU())
