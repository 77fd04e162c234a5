"""Invertible layers with log-determinants, the parts of normalizing flows."""

from gencore.nn.transforms.base import Compose, Inverse, Transform
from gencore.nn.transforms.dequantization import (
    UniformDequantization,
    VariationalDequantization,
)
from gencore.nn.transforms.permutation import Permutation

__all__ = [
    "Compose",
    "Inverse",
    "Permutation",
    "Transform",
    "UniformDequantization",
    "VariationalDequantization",
]
