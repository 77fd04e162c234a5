"""The CUDA kernel that grows a leaf of the No-U-Turn sampler's trees, executed on the host."""

import ctypes

import pytest
import torch
from testing.chain_testing import key, normal
from testing.host_executor import DTYPES, Device, build_faulty, compiler, shifted
from testing.nuts import copy, quartic
from testing.op_tester import TOLERANCE

from gencore.ops import NutsTree, nuts_leaf_, nuts_tree

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


class Coefficient(ctypes.Structure):
    _fields_ = [
        *pointers("values"), ("number", ctypes.c_double),
        ("chain_stride", ctypes.c_int64), ("element_stride", ctypes.c_int64),
    ]  # fmt: skip


class NutsLeaf(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int), ("chains", ctypes.c_int64), ("chain_size", ctypes.c_int64),
        ("step_size", Coefficient), ("inverse_mass", Coefficient),
        *pointers(*NutsTree._fields), *pointers("energy", "grad", "key"),
        *((name, ctypes.c_int64) for name in ("first_chain", "leaf", "max_depth")),
        ("max_energy_error", ctypes.c_double),
    ]  # fmt: skip


def coefficient(value: float | torch.Tensor, chains: int) -> Coefficient:
    """A number, one a chain, or one an element."""
    if not isinstance(value, torch.Tensor):
        return Coefficient(None, value, 0, 0)
    by_chain = value.dim() == 1 and len(value) == chains
    return Coefficient(value.data_ptr(), 1.0, int(by_chain), int(not by_chain))


def run(device: Device, tree, energy, grad, number, leaf, step, inverse_mass) -> str | None:
    chains, size = len(tree.position), tree.position[0].numel()
    args = NutsLeaf(
        DTYPES[grad.dtype], chains, size, coefficient(step, chains),
        coefficient(inverse_mass, chains), *(t.data_ptr() for t in (*tree, energy, grad, number)),
        3, leaf, len(tree.checkpoints) + 1, 1000.0,
    )  # fmt: skip
    given = [t for t in (step, inverse_mass) if isinstance(t, torch.Tensor)]
    read = [*tree, energy, grad, number, *given]
    return device.call("nuts_leaf", ctypes.byref(args), read=read, written=list(tree))


def test_the_structure_is_the_kernels(gpu):
    size = gpu.library.size_of_nuts_leaf
    size.restype = ctypes.c_size_t
    assert size() == ctypes.sizeof(NutsLeaf)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "variant"),
    [
        ((5, 1), "numbers"),  # a thread a chain
        ((300, 2), "per chain"),
        ((3, 7), "shifted"),
        ((4, 48), "diagonal"),  # a part of a warp
        ((3, 130), "numbers"),  # planes that are not aligned
        ((2, 1200), "diagonal"),  # a block
    ],
    ids=str,
)
def test_it_equals_the_cpu_kernel(gpu, shape, variant, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, number = normal(*shape).to(dtype), key(1)
    step = torch.full(shape[:1], 0.3, dtype=wide) if variant == "per chain" else 0.3
    inverse_mass = torch.linspace(0.3, 1.2, shape[1], dtype=wide)[None]
    inverse_mass = inverse_mass if variant == "diagonal" else 0.8
    cpu = nuts_tree(x, *quartic(x), step, inverse_mass, max_tree_depth=4, key=number)
    cpu.checkpoints.zero_()
    for leaf in range(7 if shape[1] > 1000 else 15):
        shift = int(variant == "shifted")
        ours = NutsTree(*(shifted(t, shift) if t.dtype == dtype else t.clone() for t in copy(cpu)))
        energy, grad = quartic(cpu.position)
        if leaf == 5 and len(x) > 2:
            energy[0], grad[1, -1] = torch.inf, torch.nan
        nuts_leaf_(cpu, energy, grad, leaf, step, inverse_mass, key=number, first_chain=3)
        flat = (
            inverse_mass[0].contiguous() if isinstance(inverse_mass, torch.Tensor) else inverse_mass
        )
        assert run(gpu, ours, energy, grad, number, leaf, step, flat) is None
        for one, other, field in zip(ours, cpu, ours._fields, strict=True):
            tolerance = dict(TOLERANCE.get(one.dtype, {"rtol": 0.0, "atol": 0.0}))
            if field == "weights":  # differences of energies, of momenta in the dtype of x
                tolerance = dict.fromkeys(tolerance, TOLERANCE[dtype]["rtol"])
                tolerance["atol"] *= 1 + energy.nan_to_num(posinf=0.0).abs().sum().item()
            torch.testing.assert_close(one, other, equal_nan=True, **tolerance)


def test_two_sums_without_a_barrier_between_are_caught(executor_folder, tmp_path):
    """A block's fast threads would overwrite the first sum while slow ones still read it."""
    between = "const bool turned = chain_any(running, !(at_start > 0.0));"
    faults = [("cuda/nuts.cu", between, "const bool turned = !(at_start > 0.0);")]
    device = Device(build_faulty(executor_folder, tmp_path, faults))
    x, number = normal(1, 1200), key(1)
    tree = nuts_tree(x, *quartic(x), 0.1, max_tree_depth=3, key=number)
    tree.checkpoints.zero_()
    errors = [run(device, tree, *quartic(x), number, leaf, 0.1, 1.0) for leaf in range(3)]
    assert any("race" in error for error in errors if error is not None)
