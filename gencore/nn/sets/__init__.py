"""Layers and networks for sets, whose members have no order: [N, B, ...] of N sets of B members."""

from gencore.nn.sets.deep_sets import DeepSets, SetPooling
from gencore.nn.sets.equivariant_conv_discriminator import EquivariantConvDiscriminator
from gencore.nn.sets.equivariant_layers import EquivariantConv2d, EquivariantLinear
from gencore.nn.sets.equivariant_mlp import EquivariantMLP
from gencore.nn.sets.invariant_network import InvariantNetwork
from gencore.nn.sets.minibatch_discrimination import MinibatchDiscrimination
from gencore.nn.sets.minibatch_std_dev import MinibatchStdDev

__all__ = [
    "DeepSets",
    "EquivariantConv2d",
    "EquivariantConvDiscriminator",
    "EquivariantLinear",
    "EquivariantMLP",
    "InvariantNetwork",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "SetPooling",
]
