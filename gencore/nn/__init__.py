"""Layers and tools for networks that the models share."""

from gencore.nn.conditioners import ConvConditioner, ResidualConditioner
from gencore.nn.mlp import MLP
from gencore.nn.mlp_energy import MLPEnergy
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import (
    ActNorm,
    AffineCoupling,
    Compose,
    Inverse,
    InvertibleConv1x1,
    MultiScale,
    Permutation,
    Reversible,
    Rewound,
    Squeeze,
    Transform,
)

__all__ = [
    "MLP",
    "ActNorm",
    "AffineCoupling",
    "Compose",
    "ConvConditioner",
    "Inverse",
    "InvertibleConv1x1",
    "MLPEnergy",
    "MultiScale",
    "Permutation",
    "ResidualConditioner",
    "Reversible",
    "Rewound",
    "Squeeze",
    "Transform",
    "stop_gradient",
]
