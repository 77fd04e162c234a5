"""Layers and tools for networks that the models share."""

from gencore.nn.mlp_energy import MLPEnergy
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import (
    Compose,
    Inverse,
    Permutation,
    Transform,
    UniformDequantization,
    VariationalDequantization,
)

__all__ = [
    "Compose",
    "Inverse",
    "MLPEnergy",
    "Permutation",
    "Transform",
    "UniformDequantization",
    "VariationalDequantization",
    "stop_gradient",
]
