"""Layers and tools for networks that the models share."""

from gencore.nn.made import MADE
from gencore.nn.mlp_energy import MLPEnergy
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import (
    Compose,
    Inverse,
    InverseAutoregressive,
    MaskedAutoregressive,
    Permutation,
    Transform,
)

__all__ = [
    "MADE",
    "Compose",
    "Inverse",
    "InverseAutoregressive",
    "MLPEnergy",
    "MaskedAutoregressive",
    "Permutation",
    "Transform",
    "stop_gradient",
]
