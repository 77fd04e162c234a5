"""Layers and tools for networks that the models share."""

from gencore.nn.mlp import MLP
from gencore.nn.mlp_energy import MLPEnergy
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import (
    Compose,
    Inverse,
    Permutation,
    Planar,
    Radial,
    SplineCoupling,
    Transform,
)

__all__ = [
    "MLP",
    "Compose",
    "Inverse",
    "MLPEnergy",
    "Permutation",
    "Planar",
    "Radial",
    "SplineCoupling",
    "Transform",
    "stop_gradient",
]
