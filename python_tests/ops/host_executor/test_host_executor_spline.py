"""The CUDA kernels of rational-quadratic splines, executed on the host."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, compiler
from testing.op_tester import TOLERANCE
from torch import Tensor

from gencore.ops import rational_quadratic_spline

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]

# Chains of one thread, a part of a warp, a warp and a block; a chain's last group whole and not.
SHAPES = ((0, 3), (3, 0), (1, 1), (270, 1), (7, 3), (5, 8), (3, 33), (2, 129), (2, 300))
SETTINGS = {"tail_bound": 2.0, "min_width": 1e-3, "min_height": 2e-3, "min_derivative": 3e-3}
VARIANTS = {
    "forward": {"inverse": False, "bound": 1.0},
    "inverse": {"inverse": True, "bound": 1.0},
    "no bound": {"inverse": False, "bound": None},
    "no bound, inverse": {"inverse": True, "bound": None},
}


class SplineArguments(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int), ("inverse", ctypes.c_bool),
        *((n, ctypes.c_int64) for n in ("numel", "chains", "chain_size", "bins")),
        *((n, ctypes.c_double) for n in (
            "tail_bound", "bound", "min_width", "min_height", "min_derivative", "slope_offset")),
        ("x", ctypes.c_void_p),
        *(
            (f"{n}{field}", kind)
            for n in ("widths", "heights", "derivatives")
            for field, kind in (("", ctypes.c_void_p), ("_stride", ctypes.c_int64))
        ),
    ]  # fmt: skip


def structure(name: str, *pointers: str) -> type[ctypes.Structure]:
    fields = [*SplineArguments._fields_, *((p, ctypes.c_void_p) for p in pointers)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "spline": structure("SplineTransform", "y", "log_det"),
    "spline_backward": structure(
        "SplineBackward", "y_grad", "log_det_grad", "x_grad", "widths_grad", "heights_grad",
        "derivatives_grad",
    ),
}  # fmt: skip


def operands(shape, bins, dtype, shift=0) -> dict[str, Tensor]:
    """x and parameters, which begin ``shift`` elements after an aligned address."""
    generator = torch.Generator().manual_seed(sum(shape) + bins)
    sizes = {"x": (), "widths": (bins,), "heights": (bins,), "derivatives": (bins - 1,)}

    def place(size) -> Tensor:
        values = torch.randn(*shape, *size, generator=generator)
        room = torch.zeros(values.numel() + shift, dtype=dtype)
        room[shift:] = values.flatten()
        return room[shift:].view(values.shape)

    return {name: place(size) for name, size in sizes.items()}


def run(gpu: Device, name: str, variant: str, shape, bins, read, written) -> None:
    more = VARIANTS[variant]
    bound = math.inf if more["bound"] is None else more["bound"]
    offset = math.log(math.exp(1 - SETTINGS["min_derivative"]) - 1)
    args = STRUCTURES[name](
        dtype=DTYPES[read["x"].dtype], inverse=more["inverse"], bound=bound, **SETTINGS,
        slope_offset=offset,
        numel=math.prod(shape), chains=shape[0], chain_size=shape[1], bins=bins,
        **{
            f"{field}_stride": read[field].stride(1)
            for field in ("widths", "heights", "derivatives")
        },
        **{field: t.data_ptr() for field, t in {**read, **written}.items()},
    )  # fmt: skip
    # Of parts of a tensor, the whole of it.
    whole = [t if t.is_contiguous() else t._base for t in read.values()]
    assert all(t is not None for t in whole)
    error = gpu.call(name, ctypes.byref(args), read=whole, written=list(written.values()))
    assert error is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_spline_kernels_equal_the_cpu_kernels(gpu, variant, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for index, shape in enumerate(SHAPES):
        bins = (4, 1, 2)[index % 3]
        read = operands(shape, bins, dtype, shift=index % 2)
        y = torch.full(shape, math.nan, dtype=dtype)
        log_det = torch.full(shape[:1], math.nan, dtype=wide)
        run(gpu, "spline", variant, shape, bins, read, {"y": y, "log_det": log_det})

        leaves = {name: t.clone().requires_grad_() for name, t in read.items()}
        expected = rational_quadratic_spline(**leaves, **VARIANTS[variant], **SETTINGS)
        torch.testing.assert_close(y, expected[0], **TOLERANCE[dtype])
        torch.testing.assert_close(log_det, expected[1], **TOLERANCE[wide])

        weights = torch.linspace(-1, 1, y.numel()).view(shape).to(dtype), log_det.cos()
        written = {f"{n}_grad": torch.full_like(t, math.nan) for n, t in read.items()}
        read |= {"y_grad": weights[0], "log_det_grad": weights[1]}
        run(gpu, "spline_backward", variant, shape, bins, read, written)
        grads = torch.autograd.grad(expected, list(leaves.values()), weights)
        for ours, grad in zip(written.values(), grads, strict=True):
            # Narrow bins magnify the roundings of exponentials, which the two make differently.
            largest = float(grad.abs().max()) if grad.numel() else 0.0
            atol = (1e-12 if dtype == torch.float64 else 2e-5) * (1 + largest)
            torch.testing.assert_close(ours, grad, rtol=TOLERANCE[dtype]["rtol"], atol=atol)


@pytest.mark.parametrize("variant", ["forward", "inverse"])
def test_parameters_are_read_where_they_lie(gpu, variant):
    shape, bins, dtype = (5, 7), 4, torch.float32
    apart = operands(shape, bins, dtype)
    names = ("widths", "heights", "derivatives")
    joint = torch.cat([apart[name] for name in names], 2)
    parts = {"x": apart["x"], **dict(zip(names, joint.split([4, 4, 3], 2), strict=True))}
    results = []
    for read in (apart, parts):
        written = {"y": torch.empty(shape), "log_det": torch.empty(shape[0])}
        run(gpu, "spline", variant, shape, bins, read, written)
        tangents = {"y_grad": torch.ones(shape), "log_det_grad": torch.ones(shape[0])}
        grads = {f"{n}_grad": torch.empty(t.shape) for n, t in read.items()}
        run(gpu, "spline_backward", variant, shape, bins, read | tangents, grads)
        results.append([*written.values(), *grads.values()])
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)


def test_round_trips_of_float32_on_the_device_are_exact_to_1e_4(gpu):
    shape, bins = (40, 7), 8
    read = operands(shape, bins, torch.float32)
    read["x"].clamp_(-2, 2)
    for name in ("widths", "heights", "derivatives"):
        read[name] *= 10
    y, back = torch.empty(shape), torch.empty(shape)
    sums = torch.empty(2, shape[0])
    run(gpu, "spline", "forward", shape, bins, read, {"y": y, "log_det": sums[0]})
    x = read["x"]
    run(gpu, "spline", "inverse", shape, bins, {**read, "x": y}, {"y": back, "log_det": sums[1]})
    assert (back - x).abs().max() < 1e-4
    torch.testing.assert_close(sums[0], -sums[1], rtol=0, atol=1e-3)
