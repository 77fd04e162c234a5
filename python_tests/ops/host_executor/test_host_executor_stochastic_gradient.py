"""The CUDA kernels of SGHMC, Riemannian Langevin and replica exchange, executed on the host."""

import ctypes

import pytest
import torch
from testing.host_executor import DTYPES, Device, Noise, build_faulty, compiler, shifted
from testing.op_tester import TOLERANCE

from gencore.ops import replica_swap_, riemannian_langevin_step, sghmc_step

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def structure(name: str, *fields: tuple[str, type]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


Coefficient = structure(
    "Coefficient", *pointers("values"), ("number", ctypes.c_double),
    ("chain_stride", ctypes.c_int64), ("element_stride", ctypes.c_int64),
)  # fmt: skip
_COMMON = [("dtype", ctypes.c_int), ("numel", ctypes.c_int64), ("chain_size", ctypes.c_int64)]
SghmcStep = structure(
    "SghmcStep", *_COMMON, *pointers("x", "momentum", "grad"), ("noise", Noise),
    *((name, Coefficient) for name in ("step_size", "friction", "inverse_mass", "noise_scale")),
    *pointers("new_position", "new_momentum"),
)  # fmt: skip
RiemannianLangevinStep = structure(
    "RiemannianLangevinStep", *_COMMON, *pointers("x", "grad", "metric", "correction"),
    ("noise", Noise), ("step_size", Coefficient), *pointers("out"),
)  # fmt: skip
ReplicaSwap = structure(
    "ReplicaSwap", ("energy_dtype", ctypes.c_int),
    *((name, ctypes.c_int64) for name in ("pairs", "replicas", "chains", "parity", "row_bytes")),
    *pointers("x", "grad", "energy", "inverse_temperature", "uniform", "key"),
    ("first", ctypes.c_int64), *pointers("is_accepted"),
)  # fmt: skip
STRUCTURES = {
    "sghmc_step": SghmcStep,
    "riemannian_langevin_step": RiemannianLangevinStep,
    "replica_swap": ReplicaSwap,
}
SIZES = (0, 1, 3, 5, 1023, 1024, 1030)
KEY = (11, 7)


def pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def coefficient(value: float | torch.Tensor) -> ctypes.Structure:
    """A number, or a tensor [1 or N, 1 or D]."""
    if not isinstance(value, torch.Tensor):
        return Coefficient(None, value, 0, 0)
    rows, columns = value.shape
    return Coefficient(value.data_ptr(), 1.0, 0 if rows == 1 else columns, 0 if columns == 1 else 1)


def run(gpu: Device, name: str, args: ctypes.Structure, read, written) -> None:
    present = [t for t in read if isinstance(t, torch.Tensor)]
    assert gpu.call(name, ctypes.byref(args), read=present, written=list(written)) is None


def normals(count: int, size: int, dtype: torch.dtype, shift: int = 0) -> list[torch.Tensor]:
    values = torch.randn(count, size, generator=torch.Generator().manual_seed(size))
    return [shifted(row.to(dtype), shift) for row in values]


def test_the_structures_are_the_kernels(gpu):
    for name in ("sghmc_step", "riemannian_langevin_step", "replica_swap"):
        size = getattr(gpu.library, f"size_of_{name}")
        size.restype = ctypes.c_size_t
        assert size() == ctypes.sizeof(STRUCTURES[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", ["key", "given noise", "per chain", "diagonal", "in place"])
def test_sghmc_equals_the_cpu_kernel(gpu, variant, dtype):
    for size in SIZES:
        shift = 1 if variant == "in place" else 0
        x, momentum, grad, noise = normals(4, size, dtype, shift)
        key, first = torch.tensor(KEY), 6 if variant == "key" else 0
        chains = 5 if size % 5 == 0 and size > 0 else 1
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        step, friction, mass, scale = 0.2, 1.5, 0.7, 0.4
        if variant == "per chain":
            step, friction, scale = (0.1 + torch.rand(3, chains, 1, dtype=wide)).unbind(0)
        if variant == "diagonal" and size > 0:
            mass = 0.5 + torch.rand(1, size // chains, dtype=wide)
        given = noise if variant == "given noise" else None
        outputs = [x, momentum] if shift else [torch.full_like(t, torch.nan) for t in (x, momentum)]
        shape = (chains, -1) if size else (0, 1)
        expected = sghmc_step(
            x.view(shape), momentum.view(shape), grad.view(shape), step, friction, mass, scale,
            noise=None if given is None else given.view(shape), key=key, first_element=first,
        )  # fmt: skip
        args = SghmcStep(
            DTYPES[dtype], size, max(size // chains, 1), *map(pointer, (x, momentum, grad)),
            Noise(pointer(given), pointer(key), first),
            *map(coefficient, (step, friction, mass, scale)), *map(pointer, outputs),
        )  # fmt: skip
        read = [x, momentum, grad, given, key, step, friction, mass, scale]
        run(gpu, "sghmc_step", args, read, outputs)
        for ours, cpu in zip(outputs, expected, strict=True):
            torch.testing.assert_close(ours, cpu.flatten(), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", ["key", "given noise", "no correction", "no noise", "in place"])
def test_riemannian_langevin_equals_the_cpu_kernel(gpu, variant, dtype):
    for size in SIZES:
        shift = 1 if variant == "in place" else 0
        x, grad, metric, correction, noise = normals(5, size, dtype, shift)
        metric.abs_()
        key, first = torch.tensor(KEY), 3 if variant == "key" else 0
        step = 0.0 if variant == "no noise" else 0.2
        given = noise if variant == "given noise" else None
        correction = None if variant == "no correction" else correction
        out = x if shift else torch.full_like(x, torch.nan)
        expected = riemannian_langevin_step(
            x, grad, metric, correction, step, noise=given, key=key, first_element=first
        )
        args = RiemannianLangevinStep(
            DTYPES[dtype], size, max(size, 1), *map(pointer, (x, grad, metric, correction)),
            Noise(pointer(given), pointer(key), first), coefficient(step), pointer(out),
        )  # fmt: skip
        read = [x, grad, metric, correction, given, key]
        run(gpu, "riemannian_langevin_step", args, read, [out])
        torch.testing.assert_close(out, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("with_grad", [False, True])
@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "shape", "shift"),
    [
        (torch.float32, (2, 1, 1), 0),
        (torch.float32, (5, 3, 2), 0),  # a thread a pair
        (torch.float64, (4, 9, 5), 0),
        (torch.float32, (3, 11, 40), 0),  # a warp a pair, 16-byte words
        (torch.float32, (3, 11, 40), 1),  # 4-byte words
        (torch.bfloat16, (4, 5, 33), 0),  # 2-byte words
        (torch.float16, (6, 300, 3), 1),
    ],
    ids=str,
)
def test_replica_swap_equals_the_cpu_kernel(gpu, dtype, shape, shift, parity, with_grad):
    replicas, chains = shape[:2]
    key, beta = torch.tensor(KEY), torch.linspace(1.0, 0.1, replicas, dtype=torch.float64)
    for energy_dtype in (torch.float32, torch.float64):
        x = shifted(torch.randn(shape).to(dtype), shift)
        grad = shifted(-x, shift) if with_grad else None
        energy = 3 * torch.rand(shape[:2], dtype=energy_dtype)
        for uniform in (None, torch.rand(replicas - 1, chains, dtype=torch.float64)):
            is_accepted = torch.zeros(replicas, chains, dtype=torch.bool)
            copies = [None if t is None else t.clone() for t in (x, energy, grad)]
            expected = replica_swap_(
                copies[0], copies[1], beta, parity,
                grad=copies[2], uniform=uniform, key=key, first_pair=2,
            )  # fmt: skip
            args = ReplicaSwap(
                DTYPES[energy_dtype], (replicas - parity) // 2 * chains, replicas, chains, parity,
                shape[2] * x.element_size(),
                *map(pointer, (x, grad, energy, beta, uniform, key)), 2, pointer(is_accepted),
            )  # fmt: skip
            states = [t for t in (x, energy, grad) if t is not None]
            written = [*states, is_accepted]
            run(gpu, "replica_swap", args, [*written, beta, uniform, key], written)
            assert torch.equal(is_accepted, expected)
            for ours, cpu in zip((x, energy, grad), copies, strict=True):
                assert ours is None or torch.equal(ours, cpu)


def test_a_swap_past_a_row_is_caught(executor_folder, tmp_path):
    loop = "for (std::int64_t k = first; k < words; k += step)"
    faults = [("cuda/replica_exchange.cu", loop, loop.replace("< words", "<= words"))]
    device = Device(build_faulty(executor_folder, tmp_path, faults))
    x, energy = torch.randn(2, 1, 40), torch.tensor([[1.0], [0.0]])
    key, beta = torch.tensor(KEY), torch.tensor([1.0, 0.5], dtype=torch.float64)
    flags = torch.zeros(2, 1, dtype=torch.bool)
    args = ReplicaSwap(
        DTYPES[torch.float32], 1, 2, 1, 0, 160,
        *map(pointer, (x, None, energy, beta, None, key)), 0, pointer(flags),
    )  # fmt: skip
    written = [x, energy, flags]
    error = device.call(
        "replica_swap", ctypes.byref(args), read=[*written, beta, key], written=written
    )
    assert error is not None
