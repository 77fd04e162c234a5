"""Invertible layers with log-determinants, the parts of normalizing flows."""

from gencore.nn.transforms.actnorm import ActNorm
from gencore.nn.transforms.affine_autoregressive import (
    InverseAutoregressive,
    MaskedAutoregressive,
)
from gencore.nn.transforms.affine_coupling import AffineCoupling
from gencore.nn.transforms.autoregressive_spline import MaskedAutoregressiveSpline
from gencore.nn.transforms.base import Compose, Inverse, Rewound, Transform
from gencore.nn.transforms.circular_spline import CircularSplineCoupling
from gencore.nn.transforms.continuous import ContinuousTransform
from gencore.nn.transforms.conv1x1 import InvertibleConv1x1
from gencore.nn.transforms.dequantization import UniformDequantization, VariationalDequantization
from gencore.nn.transforms.elementwise_affine import ElementwiseAffine
from gencore.nn.transforms.embedded_context import EmbeddedContext
from gencore.nn.transforms.logit import Logit
from gencore.nn.transforms.lu_linear import LinearStart, LULinear
from gencore.nn.transforms.monotonic import MonotonicAutoregressive, MonotonicElementwise
from gencore.nn.transforms.multiscale import MultiScale
from gencore.nn.transforms.permutation import Permutation
from gencore.nn.transforms.planar import Planar
from gencore.nn.transforms.radial import Radial
from gencore.nn.transforms.reversible import Reversible
from gencore.nn.transforms.spline_coupling import SplineCoupling
from gencore.nn.transforms.squeeze import Squeeze
from gencore.nn.transforms.torch_bijection import TorchBijection
from gencore.nn.transforms.torch_transform import TorchTransform

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "CircularSplineCoupling",
    "Compose",
    "ContinuousTransform",
    "ElementwiseAffine",
    "EmbeddedContext",
    "Inverse",
    "InverseAutoregressive",
    "InvertibleConv1x1",
    "LULinear",
    "LinearStart",
    "Logit",
    "MaskedAutoregressive",
    "MaskedAutoregressiveSpline",
    "MonotonicAutoregressive",
    "MonotonicElementwise",
    "MultiScale",
    "Permutation",
    "Planar",
    "Radial",
    "Reversible",
    "Rewound",
    "SplineCoupling",
    "Squeeze",
    "TorchBijection",
    "TorchTransform",
    "Transform",
    "UniformDequantization",
    "VariationalDequantization",
]
