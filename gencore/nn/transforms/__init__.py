"""Invertible layers with log-determinants, the parts of normalizing flows."""

from gencore.nn.transforms.base import Compose, Inverse, Transform
from gencore.nn.transforms.permutation import Permutation
from gencore.nn.transforms.planar import Planar
from gencore.nn.transforms.radial import Radial
from gencore.nn.transforms.spline import SplineCoupling

__all__ = [
    "Compose",
    "Inverse",
    "Permutation",
    "Planar",
    "Radial",
    "SplineCoupling",
    "Transform",
]
