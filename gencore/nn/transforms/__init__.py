"""Invertible layers with log-determinants, the parts of normalizing flows."""

from gencore.nn.transforms.autoregressive import InverseAutoregressive, MaskedAutoregressive
from gencore.nn.transforms.base import Compose, Inverse, Transform
from gencore.nn.transforms.permutation import Permutation

__all__ = [
    "Compose",
    "Inverse",
    "InverseAutoregressive",
    "MaskedAutoregressive",
    "Permutation",
    "Transform",
]
