"""phase_unpool: the shared operator tests, pools by loops, closed forms, CUDA kernels, errors."""

import ctypes
import itertools
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, compiler, shifted
from testing.op_tester import TOLERANCE, OpTester, expanded
from testing.pools import (
    GEOMETRY,
    POOLS,
    counts,
    geometry,
    kernel_stride_padding,
    maps,
    members,
    numbers,
    triple,
)

from gencore.ops import phase_pool, phase_unpool

MODES = ("clamp", "drop")


def output_size(number, pools):
    """The smallest map with that many pools."""
    kernel, stride, padding = kernel_stride_padding(pools)
    axes = zip(number, kernel, stride, padding, strict=True)
    sizes = [max((n - 1) * s + k - 2 * p, 1) for n, k, s, p in axes]
    return (number[0] * stride[0] if pools.get("circular", True) else sizes[0], *sizes[1:])


def phases(magnitude, pools, device="cpu", largest=1.4):
    """Of random places, off the elements, where finite differences see one of the kink's sides."""
    kernel = [k for k in triple(pools["kernel_size"]) if k > 1]
    n, g, h, w = magnitude.shape
    generator = torch.Generator().manual_seed(5)
    shape = (n, g, len(kernel), h, w)
    scale = torch.tensor(kernel, dtype=torch.float64)[:, None, None] - 1
    p = largest * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
    at = (p + 1) / 2 * scale
    at = at.floor() + 0.1 + 0.8 * (at - at.floor())
    return (2 * at / scale - 1).to(device, magnitude.dtype)


def by_loops(magnitude, phase, sizes, pools, mode):
    """One pool after the other; its share of every element by the formula."""
    kernel = [k for k in triple(pools["kernel_size"]) if k > 1]
    z = magnitude.new_zeros(len(magnitude), *sizes)
    number = map(range, counts(sizes, pools))
    for n, pool in itertools.product(range(len(z)), itertools.product(*number)):
        p = phase[n, pool[0], :, pool[1], pool[2]]
        p = p.clamp(-1, 1) if mode == "clamp" else p
        for place, coordinates in members(pool, sizes, pools):
            share = magnitude[(n, *pool)].clone()
            for c, p_d, k in zip(coordinates, p, kernel, strict=True):
                share *= max(0.0, 1 - abs(c - p_d.item()) * (k - 1) / 2)
            z[(n, *place)] += share
    return z


class TestPhaseUnpool(OpTester):
    function = staticmethod(phase_unpool)
    overload = torch.ops.gencore.phase_unpool.default
    differentiable = ("magnitude", "phase")
    variants = {  # noqa: RUF012
        "columns": {**POOLS["columns"], "mode": "drop"},
        "planes": {**POOLS["planes"], "mode": "clamp"},
        "volumes": {**POOLS["volumes"], "mode": "drop"},
        "features_columns": {**POOLS["features_columns"], "mode": "clamp"},
    }
    needs_chains = True
    traced = ("columns", "features_columns")

    def tensors(self, variant, shape, dtype, device):
        sizes = [*shape[:1], *(1,) * (4 - len(shape)), *shape[1:]]
        sizes = [sizes[0], sizes[1] + 1, *(max(size, 2) for size in sizes[2:])]
        magnitude = maps(*sizes, device=device)
        phase = phases(magnitude, self.variants[variant], device)
        return {"magnitude": magnitude.to(dtype), "phase": phase.to(dtype)}

    def call(self, variant, tensors, **more):
        pools = self.variants[variant]
        size = output_size(tensors["magnitude"].shape[1:], pools)
        return phase_unpool(**tensors, **pools, output_size=size, **more)

    def overload_arguments(self, variant, device):
        pools = self.variants[variant]
        tensors = self.tensors(variant, (2, 2, 3, 2), torch.float64, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        size = output_size(leaves[0].shape[1:], pools)
        return *leaves, *size, pools["mode"] == "clamp", *numbers(pools)

    @pytest.mark.slow
    def test_backward_opcheck(self, variant, device):
        magnitude, phase, *rest = self.overload_arguments(variant, device)
        grad = maps(len(magnitude), *rest[:3], device=device).requires_grad_()
        overload = torch.ops.gencore.phase_unpool_backward.default
        torch.library.opcheck(overload, (grad, magnitude, phase, *rest[3:]))

    # The tester expands matrices, and the operands have four dimensions and five.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 2, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        assert torch.equal(self.call(variant, views), self.call(variant, copies))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLS)
def test_pools_by_loops(name, mode, device):
    pools, sizes = POOLS[name], (6, 7, 8)
    magnitude = maps(2, *counts(sizes, pools))
    phase = phases(magnitude, pools, largest=2.5)
    expected = by_loops(magnitude, phase, sizes, pools, mode)
    result = phase_unpool(
        magnitude.to(device), phase.to(device), output_size=sizes, mode=mode, **pools
    )
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kernel", [(4, 3, 5), (1, 2, 6), (7, 1, 1)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_mass_and_centre_are_magnitude_and_phase(kernel, mode, device):
    magnitude = 0.5 + maps(200, 1, 1, 1, device=device).abs()
    dims = sum(k > 1 for k in kernel)
    generator = torch.Generator().manual_seed(1)
    phase = 2 * torch.rand(200, 1, dims, 1, 1, generator=generator, dtype=torch.float64) - 1
    phase[:3] = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1, 1)
    phase = phase.to(device)
    z = phase_unpool(magnitude, phase, kernel, output_size=kernel, mode=mode)
    mass = z.sum((1, 2, 3))
    torch.testing.assert_close(mass, magnitude.flatten(), rtol=0, atol=1e-12)
    axes = [axis for axis in range(3) if kernel[axis] > 1]
    for d, axis in enumerate(axes):
        others = [1 + other for other in range(3) if other != axis]
        line = torch.linspace(-1, 1, kernel[axis], dtype=z.dtype, device=device)
        centre = z.sum(others) @ line / mass
        torch.testing.assert_close(centre, phase[:, 0, d, 0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("nodes", [2, 4, 5])
def test_the_round_trip_of_a_phase_on_an_element(nodes, device):
    """m' = m w and p' = p (w n − 1) / (n − 1) with w = exp(β m) / (exp(β m) + n − 1)."""
    m, beta = 2.0, 1.5
    p = torch.linspace(-1, 1, nodes, dtype=torch.float64, device=device).view(-1, 1, 1, 1, 1)
    pools = (1, 1, nodes)
    z = phase_unpool(torch.full_like(p[:, 0], m), p, pools, output_size=pools)
    magnitude, phase = phase_pool(z, pools, beta=beta)
    w = math.exp(beta * m) / (math.exp(beta * m) + nodes - 1)
    torch.testing.assert_close(magnitude, torch.full_like(magnitude, m * w))
    torch.testing.assert_close(phase, p * (w * nodes - 1) / (nodes - 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_phase_shift_of_one_element_moves_the_map_by_one(axis, device):
    magnitude = maps(2, 1, 1, 1, device=device)
    step = 2 / 4  # five elements
    phase = 0.9 * torch.rand(2, 1, 3, 1, 1, dtype=torch.float64).to(device) - 0.9
    later = phase.clone()
    later[:, :, axis] += step
    before, after = (phase_unpool(magnitude, p, 5, output_size=(5, 5, 5)) for p in (phase, later))
    torch.testing.assert_close(after, before.roll(1, axis + 1), rtol=1e-12, atol=1e-12)


def test_phases_beyond_the_pool(device):
    magnitude = torch.tensor([2.0], dtype=torch.float64, device=device).view(1, 1, 1, 1)
    phase = torch.tensor([1.25], dtype=torch.float64, device=device).view(1, 1, 1, 1, 1)
    pools = (1, 1, 5)
    leaves = [magnitude.requires_grad_(), phase.requires_grad_()]
    clamped, dropped = (
        phase_unpool(*leaves, pools, output_size=pools, mode=mode) for mode in MODES
    )
    assert clamped.flatten().tolist() == [0, 0, 0, 0, 2]
    assert dropped.flatten().tolist() == [0, 0, 0, 0, 1]  # half an element beyond
    assert [g.item() for g in torch.autograd.grad(clamped.sum(), leaves)] == [1, 0]
    assert [g.item() for g in torch.autograd.grad(dropped.sum(), leaves)] == [0.5, -4]
    far = phase_unpool(magnitude, phase * 1e9, pools, output_size=pools, mode="drop")
    assert not far.any()


def test_on_an_element_the_derivative_is_towards_the_next(device):
    magnitude = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=device)
    weights = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64, device=device)
    slopes = {}
    for p in (-1.0, 0.0, 1.0):
        phase = magnitude.new_full((1, 1, 1, 1, 1), p).requires_grad_()
        z = phase_unpool(magnitude, phase, (1, 1, 3), output_size=(1, 1, 3))
        (grad,) = torch.autograd.grad((z * weights).sum(), phase)
        slopes[p] = grad.item()
    assert slopes == {-1.0: 9, 0.0: 90, 1.0: 90}  # at the end, from the one before


def test_a_phase_of_nan_makes_its_pool_nan(device):
    magnitude = torch.ones(1, 1, 1, 3, device=device)
    phase = torch.zeros(1, 1, 1, 1, 3, device=device)
    phase[..., 1] = math.nan
    z = phase_unpool(magnitude, phase, (1, 1, 2), output_size=(1, 1, 6))
    assert z.isnan().flatten().tolist() == [False, False, True, True, False, False]


def test_what_no_pool_holds_is_zero(device):
    magnitude = torch.ones(1, 1, 1, 2, device=device)
    phase = torch.zeros(1, 1, 1, 1, 2, device=device)
    z = phase_unpool(magnitude, phase, (1, 1, 2), (2, 1, 3), output_size=(2, 1, 7))
    assert z.flatten().tolist() == [0.5, 0.5, 0, 0.5, 0.5, 0, 0, *[0] * 7]


M, P = torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 3, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"magnitude": M[0]},
            ValueError,
            r"magnitude has shape \[2, 3, 4\], expected \[N, G",
        ),
        ({"output_size": (4, 6, 10)}, ValueError, r"expected \[N, G, h, w\] with \[2, 3, 5\]"),
        ({"output_size": (4, 6)}, ValueError, "output_size has 2 numbers, expected 3"),
        ({"output_size": None}, TypeError, "phase_unpool: output_size must be integers, got None"),
        ({"output_size": (5, 6, 8)}, ValueError, "5 features in a circle are no multiple"),
        ({"output_size": (4, 6, 1)}, ValueError, "is smaller than a pool"),
        ({"phase": P[:, :, :2]}, ValueError, r"phase has shape \[2, 2, 2, 3, 4\], expected \[2, 2"),
        ({"phase": P.double()}, TypeError, "phase is torch.float64, magnitude torch.float32"),
        ({"phase": P.to("meta")}, ValueError, "phase is on meta, magnitude on cpu"),
        ({"phase": None}, TypeError, "phase_unpool: phase must be a tensor, got NoneType"),
        ({"mode": "wrap"}, ValueError, "phase_unpool: mode"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"magnitude": M, "phase": P, "kernel_size": 2, "output_size": (4, 6, 8), **arguments}
    with pytest.raises(error, match=message):
        phase_unpool(**given)


# The CUDA kernels, executed on the host.


def _structure(*pointers):
    fields = [*GEOMETRY, ("clamp", ctypes.c_bool)]
    fields += [(name, ctypes.c_void_p) for name in ("magnitude", "phase", *pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "phase_unpool": _structure("out"),
    "phase_unpool_backward": _structure("grad_out", "magnitude_grad", "phase_grad"),
}
on_the_host = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def run(gpu: Device, name: str, sizes, pools, mode, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    magnitude = read["magnitude"]
    arguments = STRUCTURES[name](
        **geometry(magnitude.dtype, len(magnitude), sizes, pools), clamp=mode == "clamp", **places
    )
    error = gpu.call(
        name, ctypes.byref(arguments), read=list(read.values()), written=list(written.values())
    )
    assert error is None, error


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["planes", "volumes", "features_columns"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestCudaKernels:
    pytestmark = on_the_host

    def test_forward_and_backward(self, name, dtype, mode, gpu):
        pools, sizes = POOLS[name], (6, 7, 8)
        magnitude = shifted(maps(2, *counts(sizes, pools), dtype=dtype), 1)
        phase = phases(magnitude, pools, largest=2.5)
        operands = {"magnitude": magnitude, "phase": phase}
        leaves = [t.clone().requires_grad_() for t in operands.values()]
        expected = phase_unpool(*leaves, output_size=sizes, mode=mode, **pools)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        out = torch.full(expected.shape, math.nan, dtype=wide)
        run(gpu, "phase_unpool", sizes, pools, mode, operands, {"out": out})
        torch.testing.assert_close(out.to(dtype), expected, **TOLERANCE[dtype])
        grad = maps(*expected.shape, dtype=dtype, seed=7)
        theirs = torch.autograd.grad(expected, leaves, grad)
        written = {
            "magnitude_grad": torch.full_like(magnitude, math.nan),
            "phase_grad": torch.full_like(phase, math.nan),
        }
        read = {**operands, "grad_out": grad}
        run(gpu, "phase_unpool_backward", sizes, pools, mode, read, written)
        for ours, other in zip(written.values(), theirs, strict=True):
            torch.testing.assert_close(ours, other, **TOLERANCE[dtype])
