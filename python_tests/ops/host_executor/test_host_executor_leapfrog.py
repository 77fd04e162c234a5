"""The CUDA kernels of leapfrog steps and Metropolis decisions, executed on the host."""

import ctypes
import itertools
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, Noise, accumulation, build_faulty, compiler
from testing.op_tester import TOLERANCE
from torch import Tensor

from gencore.ops import leapfrog_end, leapfrog_start, leapfrog_step, metropolis_accept

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]

# Chains of one thread, a part of a warp, a warp and a block; a chain's last group whole and not.
SHAPES = ((0, 3), (3, 0), (1, 1), (300, 1), (7, 3), (5, 8), (3, 33), (3, 128), (2, 129), (2, 1200))
VARIANTS = ("numbers", "one a chain", "diagonal mass", "full mass")


def structure(name: str, *fields: tuple[str, type]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


Coefficient = structure(
    "Coefficient", ("values", ctypes.c_void_p), ("number", ctypes.c_double),
    ("chain_stride", ctypes.c_int64), ("element_stride", ctypes.c_int64),
)  # fmt: skip
_COMMON = [
    ("dtype", ctypes.c_int), ("numel", ctypes.c_int64), ("chains", ctypes.c_int64),
    ("chain_size", ctypes.c_int64), ("step_size", Coefficient), ("inverse_mass", Coefficient),
]  # fmt: skip
STRUCTURES = {
    "leapfrog_start": structure(
        "LeapfrogStart", *_COMMON, *pointers("x", "grad"), ("noise", Noise),
        *pointers("position", "momentum", "kinetic"),
    ),
    "leapfrog_step": structure(
        "LeapfrogStep", *_COMMON, *pointers("x", "momentum", "grad", "new_position", "new_momentum")
    ),
    "leapfrog_end": structure(
        "LeapfrogEnd", *_COMMON, *pointers("momentum", "grad", "new_momentum", "kinetic")
    ),
    "metropolis_accept": structure(
        "MetropolisAccept", ("dtype", ctypes.c_int), ("chains", ctypes.c_int64),
        ("chain_size", ctypes.c_int64),
        *pointers("x", "grad", "energy", "proposal", "proposal_grad", "proposal_energy", "kinetic",
                  "proposal_kinetic"),
        ("uniform", Noise), ("max_energy_error", ctypes.c_double),
        *pointers("new_x", "new_grad", "new_energy", "is_accepted", "acceptance_rate",
                  "is_divergent"),
    ),
}  # fmt: skip


class Chains:
    """Operands of leapfrog operators, as the operators and as the kernels want them."""

    def __init__(self, variant, shape, dtype, shift=0) -> None:
        self.shape, self.dtype, self.shift = shape, dtype, shift
        self.generator = torch.Generator().manual_seed(sum(shape))
        chains, size = shape
        wide = accumulation(dtype)
        self.step, self.mass = 0.3, 0.7
        self.steps = self.masses = None
        if variant == "one a chain":
            self.steps = torch.rand(chains, 1, generator=self.generator).to(wide)
        rows, columns = {
            "one a chain": (chains, 1), "diagonal mass": (1, size), "full mass": shape,
        }.get(variant, (0, 0))  # fmt: skip
        if variant != "numbers":
            self.masses = (0.5 + torch.rand(rows, columns, generator=self.generator)).to(wide)

    def place(self, values: Tensor) -> Tensor:
        """A copy that begins ``shift`` elements after an aligned address."""
        room = torch.zeros(values.numel() + self.shift, dtype=values.dtype)
        room[self.shift :] = values.flatten()
        return room[self.shift :].view(values.shape)

    def normal(self) -> Tensor:
        return self.place(torch.randn(self.shape, generator=self.generator).to(self.dtype))

    def empty(self) -> Tensor:
        return self.place(torch.full(self.shape, math.nan, dtype=self.dtype))

    def sums(self) -> Tensor:
        return torch.full(self.shape[:1], math.nan, dtype=accumulation(self.dtype))

    def operator_coefficients(self) -> tuple:
        return (
            self.step if self.steps is None else self.steps,
            self.mass if self.masses is None else self.masses,
        )

    def run(self, gpu: Device, name: str, read, written, noise=None) -> None:
        """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""

        def coefficient(values: Tensor | None, number: float):
            if values is None or 0 in self.shape:
                return Coefficient(None, number, 0, 0)
            rows, columns = values.shape
            strides = (0 if rows == 1 else columns, 0 if columns == 1 else 1)
            return Coefficient(values.data_ptr(), number, *strides)

        numbers = {"numel": math.prod(self.shape)}
        if name != "metropolis_accept":
            numbers["step_size"] = coefficient(self.steps, self.step)
            numbers["inverse_mass"] = coefficient(self.masses, self.mass)
        else:
            numbers = {"max_energy_error": 1.0}
        if noise is not None:
            tensor, key, first = noise
            at = [None if t is None else t.data_ptr() for t in (tensor, key)]
            field = "uniform" if name == "metropolis_accept" else "noise"
            numbers[field] = Noise(*at, first)
        args = STRUCTURES[name](
            dtype=DTYPES[self.dtype], chains=self.shape[0], chain_size=self.shape[1], **numbers,
            **{field: t.data_ptr() for field, t in {**read, **written}.items()},
        )  # fmt: skip
        inputs = [*read.values(), self.steps, self.masses, *(noise or ())[:2]]
        error = gpu.call(
            name, ctypes.byref(args), read=[t for t in inputs if t is not None],
            written=list(written.values()),
        )  # fmt: skip
        assert error is None


def assert_close(ours, expected) -> None:
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[a.dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_leapfrog_kernels_equal_the_cpu_kernels(gpu, variant, dtype):
    for shape in SHAPES:
        chains = Chains(variant, shape, dtype)
        x, momentum, grad = (chains.normal() for _ in range(3))
        key = torch.tensor([shape[0], 9])
        coefficients = chains.operator_coefficients()
        a, b, kinetic = chains.empty(), chains.empty(), chains.sums()
        for first in (0, 6):
            chains.run(
                gpu, "leapfrog_start", {"x": x, "grad": grad},
                {"position": a, "momentum": b, "kinetic": kinetic}, (None, key, first),
            )  # fmt: skip
            expected = leapfrog_start(x, grad, *coefficients, key=key, first_element=first)
            assert_close((a, b, kinetic), expected)
        chains.run(
            gpu, "leapfrog_step", {"x": x, "momentum": momentum, "grad": grad},
            {"new_position": a, "new_momentum": b},
        )  # fmt: skip
        assert_close((a, b), leapfrog_step(x, momentum, grad, *coefficients))
        chains.run(
            gpu, "leapfrog_end", {"momentum": momentum, "grad": grad},
            {"new_momentum": a, "kinetic": kinetic},
        )  # fmt: skip
        assert_close((a, kinetic), leapfrog_end(momentum, grad, *coefficients))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_leapfrog_kernels_in_place_off_alignment_and_with_given_noise(gpu, dtype):
    for shape in ((5, 3), (2, 1200)):
        chains = Chains("one a chain", shape, dtype, shift=1)
        x, momentum, grad, noise = (chains.normal() for _ in range(4))
        coefficients = chains.operator_coefficients()
        a, b, kinetic = chains.empty(), chains.empty(), chains.sums()
        chains.run(
            gpu, "leapfrog_start", {"x": x, "grad": grad},
            {"position": a, "momentum": b, "kinetic": kinetic}, (noise, None, 0),
        )  # fmt: skip
        assert_close((a, b, kinetic), leapfrog_start(x, grad, *coefficients, noise=noise))
        expected = leapfrog_step(x, momentum, grad, *coefficients)
        chains.run(
            gpu, "leapfrog_step", {"x": x, "momentum": momentum, "grad": grad},
            {"new_position": x, "new_momentum": momentum},
        )  # fmt: skip
        assert_close((x, momentum), expected)


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_the_same_in_any_order_of_the_threads_and_for_any_split(gpu, seed):
    for shape in ((9, 3), (5, 33), (3, 1201)):
        whole = Chains("numbers", shape, torch.float32)
        momentum, grad, key = whole.normal(), whole.normal(), torch.tensor([7, 8])

        def start(rows, first, whole=whole, momentum=momentum, grad=grad, key=key):
            part = Chains("numbers", (len(rows), whole.shape[1]), torch.float32)
            a, b, kinetic = part.empty(), part.empty(), part.sums()
            x, g = momentum[rows].clone(), grad[rows].clone()
            part.run(
                gpu, "leapfrog_start", {"x": x, "grad": g},
                {"position": a, "momentum": b, "kinetic": kinetic}, (None, key, first),
            )  # fmt: skip
            return kinetic

        gpu.seed(0)
        expected = start(range(shape[0]), 0)
        gpu.seed(seed)
        parts = [start(range(2), 0), start(range(2, shape[0]), 2 * shape[1])]
        assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_metropolis_accept_equals_the_cpu_kernel(gpu, dtype):
    for shape, in_place in itertools.product(SHAPES, (False, True)):
        chains = Chains("numbers", shape, dtype)
        states = ("x", "grad", "proposal", "proposal_grad")
        entries = ("energy", "proposal_energy", "kinetic", "proposal_kinetic")
        operands = {name: chains.normal() for name in states}
        for name in entries:
            values = torch.randn(shape[0], generator=chains.generator)
            operands[name] = values.to(accumulation(dtype))
        for chain, name in ((1, "proposal"), (2, "proposal_grad"), (4, "proposal_kinetic")):
            if shape[0] > chain and shape[1] > 0:
                operands[name][chain].view(-1)[-1] = (math.nan, math.inf, -math.inf)[chain // 2]
        key = torch.tensor([shape[1], 2])
        expected = metropolis_accept(**operands, key=key, first_chain=3, max_energy_error=1.0)
        verdict = {
            "is_accepted": torch.zeros(shape[0], dtype=torch.bool),
            "acceptance_rate": chains.sums(),
            "is_divergent": torch.zeros(shape[0], dtype=torch.bool),
        }
        new = {"new_x": chains.empty(), "new_grad": chains.empty(), "new_energy": chains.sums()}
        if in_place:
            new = {f"new_{name}": operands[name] for name in ("x", "grad", "energy")}
        chains.run(gpu, "metropolis_accept", operands, {**new, **verdict}, (None, key, 3))
        ours = [*new.values(), *verdict.values()]
        for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
            exact = {"rtol": 0.0, "atol": 0.0} if i != 4 else TOLERANCE[a.dtype]
            torch.testing.assert_close(a, b, **exact)


def test_given_uniforms_decide(gpu):
    chains = Chains("numbers", (40, 5), torch.float32)
    operands = {n: chains.normal() for n in ("x", "grad", "proposal", "proposal_grad")}
    for name in ("energy", "proposal_energy", "kinetic", "proposal_kinetic"):
        operands[name] = torch.randn(40, generator=chains.generator)
    uniform = torch.rand(40, generator=chains.generator)
    results = {
        "new_x": chains.empty(), "new_grad": chains.empty(), "new_energy": chains.sums(),
        "is_accepted": torch.zeros(40, dtype=torch.bool), "acceptance_rate": chains.sums(),
        "is_divergent": torch.zeros(40, dtype=torch.bool),
    }  # fmt: skip
    chains.run(gpu, "metropolis_accept", operands, results, (uniform, None, 0))
    expected = metropolis_accept(**operands, uniform=uniform)
    assert torch.equal(results["is_accepted"], expected.is_accepted)
    assert 5 < expected.is_accepted.sum() < 35


CHAINWISE = "cuda/chainwise.cuh"
FAULTS = {
    "a missing barrier": ("  __syncthreads();\n  double sum = 0.0;", "  double sum = 0.0;"),
    "another chain's element": ("start + shape.chain_size;", "start + shape.chain_size + 1;"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, executor_folder, tmp_path):
    text, replacement = FAULTS[fault]
    faults = [(CHAINWISE, text, replacement)]
    gpu = Device(build_faulty(executor_folder, tmp_path, faults, ["cuda/leapfrog.cu"]))
    chains = Chains("numbers", (2, 1200), torch.float32)
    operands = {"momentum": chains.normal(), "grad": chains.normal()}
    results = {"new_momentum": chains.empty(), "kinetic": chains.sums()}
    with pytest.raises(AssertionError, match=r"race|bounds|initialised"):
        chains.run(gpu, "leapfrog_end", operands, results)
