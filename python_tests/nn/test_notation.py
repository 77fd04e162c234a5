"""Networks from their notation."""

import pytest
import torch
from torch import nn

from gencore.nn import NotatedNetwork

LENET = (
    "1@32x32 -conv5-> 6@28x28 -MaxPool2,Tanh,conv5-> 16@10x10 -MaxPool2,Tanh,conv5-> 120@1x1 "
    "-Tanh,FC-> 84 -Tanh,FC-> 10"
)


def test_m01_lenet_5_has_the_sizes_of_the_thesis():
    network = NotatedNetwork(LENET)
    assert network.shapes == ((1, 32, 32), (6, 28, 28), (16, 10, 10), (120, 1, 1), (84,), (10,))
    # LeCun et al. 1998 with all maps connected: (25 + 1) 6 + (150 + 1) 16 + (400 + 1) 120 + …
    weights = [26 * 6, 151 * 16, 401 * 120, 121 * 84, 85 * 10]
    assert sum(p.numel() for p in network.parameters()) == sum(weights)
    assert network(torch.zeros(3, 1, 32, 32)).shape == (3, 10)


@pytest.mark.parametrize(
    ("notation", "size", "expected"),
    [
        ("3@227x227 -convp11/4,BN,ReLU-> 96", 227, (96, 57, 57)),
        ("3@32x32 -convp9,ReLU-> 64@32x32", 32, (64, 32, 32)),
        ("8@16x16 -pad8,conv9-> 4@24x24", 16, (4, 24, 24)),
        ("8@16x16 -convp5/1/2-> 4@32x32", 16, (4, 32, 32)),
        ("8@15x15 -convp4/1/2-> 4@30x30", 15, (4, 30, 30)),
        ("8@15x15 -convp4-> 4@15x15", 15, (4, 15, 15)),
        ("2@8x8 -MaxPool3/2-> 2@3x3", 8, (2, 3, 3)),
        ("2@8x8 -UpSample3-> 2@24x24", 8, (2, 24, 24)),
        ("2@4x4 -FC,ReLU-> 48 -reshape-> 3@4x4 -conv1-> 5@4x4", 4, (5, 4, 4)),
        ("12 -convp3,ReLU-> 128 -convp3,Tanh-> 3", 9, (3, 9, 9)),
    ],
)
def test_sizes(notation, size, expected):
    network = NotatedNetwork(notation)
    maps = network.shapes[0][0]
    assert network(torch.zeros(2, maps, size, size)).shape == (2, *expected)
    if "@" in notation:
        assert network.shapes[-1] == expected


def test_fully_connected_from_vectors():
    network = NotatedNetwork("7 -FC,ReLU/BN-> 5 -FC-> 2")
    assert [type(layer) for layer in network] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert network(torch.zeros(4, 7)).shape == (4, 2)


def test_maps_from_vectors():
    network = NotatedNetwork("7 -FC,ReLU-> 12 -reshape-> 3@2x2 -pad1,conv2-> 5@3x3")
    assert network.shapes == ((7,), (12,), (3, 2, 2), (5, 3, 3))
    assert network(torch.zeros(4, 7)).shape == (4, 5, 3, 3)


def test_the_non_linearity_comes_after_batch_normalisation():
    layers = NotatedNetwork("3 -convp3,LeakyReLU/BN-> 8")
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]


def test_width_scales_what_is_between():
    shapes = NotatedNetwork("3 -convp3-> 128 -convp3-> 256 -convp3-> 3", width=0.25).shapes
    assert shapes == ((3,), (32,), (64,), (3,))


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("3@8x8", "has no arrow"),
        ("3@8x8 -conv3-> 4@7x7", r"gives \(4, 6, 6\), where the notation has \(4, 7, 7\)"),
        ("3@8x8 -ReLU-> 4", "gives .* where the notation has"),
        ("x -conv3-> 4", "'x' is no number of maps"),
        ("3 -conf3-> 4", "'conf3' is no layer"),
        ("3 -conv-> 4", "'conv' is no layer"),
        ("3 -conv3/1/2-> 4", "'conv3/1/2' is no layer"),
        ("3 -FC3-> 4", "'FC3' is no layer"),
        ("3 -convp3-> 4 -FC-> 2", "needs '@HxW'"),
        ("3 -FC-> 4 -conv3-> 2", "needs maps; 'reshape' makes them"),
        ("3@4x4 -FC-> 47 -reshape-> 3@4x4", "'reshape' does not fit"),
        ("3@4x4 -conv5-> 3", "'conv5' does not fit"),
    ],
)
def test_what_does_not_fit_is_told(notation, message):
    with pytest.raises(ValueError, match=message):
        NotatedNetwork(notation)


def test_random_numbers_are_those_of_the_layers():
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 4, 3).weight
    torch.manual_seed(0)
    assert torch.equal(NotatedNetwork("3@8x8 -conv3-> 4")[0].weight, expected)


def test_a_vector_may_be_reshaped_at_first():
    network = NotatedNetwork("16 -reshape-> 1@4x4 -convp3-> 2@4x4")
    assert network(torch.zeros(3, 16)).shape == (3, 2, 4, 4)
