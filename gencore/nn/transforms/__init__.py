"""Invertible layers with log-determinants, the parts of normalizing flows."""

from gencore.nn.transforms.actnorm import ActNorm
from gencore.nn.transforms.affine_autoregressive import (
    InverseAutoregressive,
    MaskedAutoregressive,
)
from gencore.nn.transforms.base import Compose, Inverse, Rewound, Transform
from gencore.nn.transforms.conv1x1 import InvertibleConv1x1
from gencore.nn.transforms.coupling import AffineCoupling
from gencore.nn.transforms.dequantization import UniformDequantization, VariationalDequantization
from gencore.nn.transforms.multiscale import MultiScale
from gencore.nn.transforms.permutation import Permutation
from gencore.nn.transforms.planar import Planar
from gencore.nn.transforms.radial import Radial
from gencore.nn.transforms.reversible import Reversible
from gencore.nn.transforms.spline import SplineCoupling
from gencore.nn.transforms.spline_autoregressive import MaskedAutoregressiveSpline
from gencore.nn.transforms.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Compose",
    "Inverse",
    "InverseAutoregressive",
    "InvertibleConv1x1",
    "MaskedAutoregressive",
    "MaskedAutoregressiveSpline",
    "MultiScale",
    "Permutation",
    "Planar",
    "Radial",
    "Reversible",
    "Rewound",
    "SplineCoupling",
    "Squeeze",
    "Transform",
    "UniformDequantization",
    "VariationalDequantization",
]
