"""The rational-quadratic spline: the shared operator tests, its accuracy and every bad input."""

import math

import pytest
import torch
from op_tester import DTYPES, OpTester

from gencore.ops import backend, rational_quadratic_spline

BINS = 5


class TestRationalQuadraticSpline(OpTester):
    needs_chains = True
    function = staticmethod(rational_quadratic_spline)
    overload = torch.ops.gencore.rational_quadratic_spline.default
    differentiable = ("x", "widths", "heights", "derivatives")
    variants = {  # noqa: RUF012
        "forward": {"tail_bound": 2.0},
        "inverse": {"tail_bound": 2.0, "inverse": True},
        "no bound": {"tail_bound": 2.0, "bound": None},
        "no bound, inverse": {"tail_bound": 2.0, "bound": None, "inverse": True},
    }

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)
        shapes = shape, (*shape, BINS), (*shape, BINS), (*shape, BINS - 1)
        return {
            name: torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)
            for name, size in zip(self.differentiable, shapes, strict=True)
        }

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        more = self.variants[variant]
        bound = math.inf if "bound" in more else 1.0
        operands = (tensor.requires_grad_() for tensor in t.values())
        return *operands, 2.0, bound, 1e-3, 1e-3, 1e-3, more.get("inverse", False)
