"""The CUDA kernel of a MADE layer's inverse, executed on the host."""

import ctypes
import math
from itertools import pairwise

import pytest
import torch
from testing.host_executor import DTYPES, Device, Mlp, compiler
from testing.op_tester import TOLERANCE
from torch import Tensor

from gencore.ops import backend, made_inverse

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]
KINDS = {"silu": 0, "softplus": 1, "tanh": 2, "leaky_relu": 3}
STEPS = {"exponential": 0, "gate": 1, "spline": 2}
NUMBERS = {"tail_bound": 2.5, "min_width": 1e-3, "min_height": 2e-3, "min_derivative": 1e-2}
# One unit; fewer and more units of a degree than a product has rows; every depth; few samples a
# block, for there is no room for more.
NETWORKS = ((1, (1,)), (2, (9, 3)), (5, (3, 12)), (4, (7, 6, 5, 8)), (3, (6000,)))


class SplineSettings(ctypes.Structure):
    _fields_ = [
        ("bins", ctypes.c_int64),
        *((n, ctypes.c_double) for n in (
            "tail_bound", "bound", "min_width", "min_height", "min_derivative", "slope_offset")),
    ]  # fmt: skip


class MadeInverse(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int), ("rows", ctypes.c_int64), ("mlp", Mlp),
        ("unit_ends", ctypes.c_void_p), ("step", ctypes.c_int), ("bound", ctypes.c_double),
        ("spline", SplineSettings),
        *((n, ctypes.c_void_p) for n in ("z", "context_term", "x", "log_det")),
    ]  # fmt: skip


STRUCTURES = {"made_inverse": MadeInverse}


class Layer:
    """The operands of a layer, as the operator and as the kernel want them."""

    def __init__(
        self, features: int, widths: tuple[int, ...], dtype: torch.dtype, each: int = 2
    ) -> None:
        generator = torch.Generator().manual_seed(features)
        self.sizes = (features, *widths, each * features)
        self.bins = (each + 1) // 3
        self.weights = [
            (torch.randn(o, i, generator=generator) / i**0.5).to(dtype)
            for i, o in pairwise(self.sizes)
        ]
        self.biases = [torch.randn(o, generator=generator).to(dtype) for o in self.sizes[1:]]
        draws = [torch.randint(0, w + 1, (features,), generator=generator) for w in widths]
        self.unit_ends = torch.stack([draw.sort().values for draw in draws])
        self.accumulate = torch.float64 if dtype == torch.float64 else torch.float32
        self.operands = [t.to(self.accumulate) for t in (*self.weights, *self.biases)]

    def mlp(self, activation: str) -> Mlp:
        mlp = Mlp(layers=len(self.weights), activation=KINDS[activation], negative_slope=0.2)
        for place, size in enumerate(self.sizes):
            mlp.widths[place] = size
        for place in range(len(self.weights)):
            mlp.weights[place] = self.operands[place].data_ptr()
            mlp.biases[place] = self.operands[len(self.weights) + place].data_ptr()
        return mlp

    def run(
        self, gpu: Device, z: Tensor, term: Tensor | None, activation: str, step: str, bound: float
    ) -> tuple[Tensor, Tensor]:
        x, log_det = torch.empty_like(z), torch.empty(len(z), dtype=self.accumulate)
        wide = None if term is None else term.to(self.accumulate)
        args = MadeInverse(
            dtype=DTYPES[z.dtype], rows=len(z), mlp=self.mlp(activation),
            unit_ends=self.unit_ends.data_ptr(), step=STEPS[step], bound=bound,
            spline=SplineSettings(
                bins=self.bins, bound=bound, **NUMBERS,
                slope_offset=math.log(math.exp(1 - NUMBERS["min_derivative"]) - 1),
            ),
            z=z.data_ptr(),
            context_term=None if wide is None else wide.data_ptr(), x=x.data_ptr(),
            log_det=log_det.data_ptr(),
        )  # fmt: skip
        read = [z, self.unit_ends, *self.operands, *([] if wide is None else [wide])]
        error = gpu.call("made_inverse", ctypes.byref(args), read=read, written=[x, log_det])
        assert error is None, error
        return x, log_det


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("features", "widths"), NETWORKS, ids=str)
def test_equals_the_cpu_kernel_and_the_reference(gpu, features, widths, dtype):
    layer = Layer(features, widths, dtype)
    cases = (
        (1, "leaky_relu", "exponential", 1.5), (19, "tanh", "gate", 2.0),
        (16, "softplus", "exponential", float("inf")), (33, "silu", "exponential", 0.7),
    )  # fmt: skip
    for case in cases if max(widths) < 1000 else cases[:2]:
        check(gpu, layer, dtype, *case)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("features", "widths", "bins"), [(1, (1,), 1), (5, (3, 12), 2), (3, (9,), 9), (2, (4000,), 40)]
)
def test_splines_equal_the_cpu_kernel_and_the_reference(gpu, features, widths, bins, dtype):
    layer = Layer(features, widths, dtype, 3 * bins - 1)
    for rows, bound in (1, 1.0), (19, float("inf")):
        check(gpu, layer, dtype, rows, "tanh", "spline", bound)


def check(
    gpu: Device, layer: Layer, dtype: torch.dtype, rows: int, activation: str, step: str,
    bound: float,
) -> None:  # fmt: skip
    gpu.seed(rows)
    generator = torch.Generator().manual_seed(rows)
    z = torch.randn(rows, layer.sizes[0], generator=generator).to(dtype)
    term = torch.randn(rows, layer.sizes[1], generator=generator).to(dtype) if rows % 2 else None
    result = layer.run(gpu, z, term, activation, step, bound)
    for name in ("native", "reference"):
        with backend(name):
            expected = made_inverse(
                z, layer.weights, layer.biases, layer.unit_ends, step=step, bound=bound, **NUMBERS,
                activation=activation, negative_slope=0.2, context_term=term,
            )  # fmt: skip
        for ours, theirs in zip(result, expected, strict=True):
            # Errors of one coordinate enter all that follow, and narrow bins magnify roundings.
            is_whole = ours.dtype in (torch.float64, torch.float32)
            factor = 100 if step == "spline" and is_whole else 8
            tolerance = {k: factor * v for k, v in TOLERANCE[ours.dtype].items()}
            torch.testing.assert_close(ours, theirs, **tolerance)


def test_unit_ends_out_of_bounds_do_not_leave_the_memory(gpu):
    layer = Layer(5, (12, 7), torch.float32)
    layer.unit_ends = torch.tensor([[-(2**62), 2**62, -3, 5, 2**40]] * 2)
    layer.run(gpu, torch.randn(20, 5), None, "tanh", "exponential", 2.0)
