"""Every CUDA kernel executed on the host, and proof that the executor sees what it should."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import (
    DTYPES,
    STRUCTURES,
    Device,
    Noise,
    PhiloxFill,
    build_faulty,
    compiler,
    shifted,
)
from testing.op_tester import TOLERANCE

from gencore.ops import backend, langevin_step, philox_normal, philox_words

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]

SIZES = (0, 1, 3, 4, 5, 255, 1023, 1024, 1025, 4099)
ANY = math.inf


def pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class Step:
    """A Langevin step's operands, as the operator and as the kernel want them."""

    def __init__(self, variant: str, size: int, dtype: torch.dtype, shift: int = 0) -> None:
        generator = torch.Generator().manual_seed(size)

        def normal() -> torch.Tensor:
            return shifted(torch.randn(size, generator=generator).to(dtype), shift)

        self.dtype, self.size, self.shift = dtype, size, shift
        self.x, self.grad, self.key = normal(), normal(), torch.tensor([size, 5])
        self.noise = normal() if variant == "given noise" else None
        self.first = 0
        self.numbers = {"step_size": 0.2, "noise_scale": 0.4}
        self.prior, self.clip, self.clamp = 0.0, ANY, (-ANY, ANY)
        self.steps = self.scales = None
        self.chains = 1
        if variant == "clamps":
            self.prior, self.clip, self.clamp, self.first = -0.3, 0.7, (-0.8, 0.9), 6
        if variant == "per chain" and size % 5 == 0 and size > 0:
            self.chains = 5
            accumulate = torch.float64 if dtype == torch.float64 else torch.float32
            self.steps = torch.rand(5, generator=generator).to(accumulate)
            self.scales = torch.rand(5, generator=generator).to(accumulate)

    def operator(self, x: torch.Tensor, grad: torch.Tensor, noise: torch.Tensor | None):
        shape = (self.chains, -1) if self.chains > 1 else x.shape
        low, high = self.clamp
        result = langevin_step(
            x.view(shape),
            grad.view(shape),
            self.numbers["step_size"] if self.steps is None else self.steps,
            self.numbers["noise_scale"] if self.scales is None else self.scales,
            prior_precision=self.prior,
            grad_clamp=None if self.clip == ANY else self.clip,
            clamp=None if self.clamp == (-ANY, ANY) else (low, high),
            noise=None if noise is None else noise.view(shape),
            key=self.key,
            first_element=self.first,
        )
        return result.flatten()

    def kernel(self, gpu: Device, name: str, read=(), written=(), **pointers) -> str | None:
        args = STRUCTURES[name](
            dtype=DTYPES[self.dtype],
            numel=self.size,
            chain_size=max(self.size // self.chains, 1),
            x=pointer(self.x),
            grad=pointer(self.grad),
            noise=Noise(pointer(self.noise), pointer(self.key), self.first),
            step_sizes=pointer(self.steps),
            noise_scales=pointer(self.scales),
            prior_precision=self.prior,
            grad_clamp=self.clip,
            clamp_min=self.clamp[0],
            clamp_max=self.clamp[1],
            **self.numbers,
            **{key: pointer(value) for key, value in pointers.items()},
        )
        operands = [self.x, self.grad, self.noise, self.key, self.steps, self.scales, *read]
        present = [t for t in operands if t is not None]
        return gpu.call(name, ctypes.byref(args), read=present, written=list(written))

    def output(self) -> torch.Tensor:
        return shifted(torch.full((self.size,), math.nan, dtype=self.dtype), self.shift)


VARIANTS = ("plain", "given noise", "clamps", "per chain")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_step_equals_the_cpu_kernel_and_the_reference(gpu, variant, dtype):
    for size in SIZES:
        step = Step(variant, size, dtype)
        out = step.output()
        assert step.kernel(gpu, "langevin_step", written=[out], out=out) is None
        torch.testing.assert_close(
            out, step.operator(step.x, step.grad, step.noise), **TOLERANCE[dtype]
        )
        with backend("reference"):
            expected = step.operator(step.x, step.grad, step.noise)
        torch.testing.assert_close(out, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_step_in_place_and_off_alignment(gpu, dtype):
    for size in (5, 1025):
        step = Step("clamps", size, dtype, shift=1)
        expected = step.operator(step.x, step.grad, None)
        assert step.kernel(gpu, "langevin_step", written=[step.x], out=step.x) is None
        torch.testing.assert_close(step.x, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_backward_equals_autograd(gpu, variant, dtype):
    for size in (1, 5, 1025):
        step = Step(variant, size, dtype)
        weights = torch.linspace(-1, 1, size, dtype=dtype)
        leaves = [t.clone().requires_grad_() for t in (step.x, step.grad)]
        if step.noise is not None:
            leaves.append(step.noise.clone().requires_grad_())
        result = step.operator(*leaves, *([None] if step.noise is None else []))
        expected = torch.autograd.grad(result, leaves, weights)
        outputs = [step.output() for _ in leaves]
        names = ("x_grad", "grad_grad", "noise_grad")
        error = step.kernel(
            gpu, "langevin_backward", read=[weights], written=outputs, grad_out=weights,
            **dict(zip(names, outputs, strict=False)),
        )  # fmt: skip
        assert error is None
        for ours, autograd in zip(outputs, expected, strict=True):
            torch.testing.assert_close(ours, autograd, **TOLERANCE[dtype])


@pytest.mark.parametrize("variant", VARIANTS)
def test_tangent_is_the_adjoint_of_backward(gpu, variant):
    """⟨w, J v⟩ = ⟨Jᵀ w, v⟩ for the derivative J of the step."""
    for size in (5, 1025):
        step = Step(variant, size, torch.float64)
        vx, vg, vn, w = torch.randn(4, size, dtype=torch.float64).unbind(0)
        tangent = step.output()
        error = step.kernel(
            gpu, "langevin_tangent", read=[vx, vg, vn], written=[tangent],
            x_tangent=vx, grad_tangent=vg, noise_tangent=vn, out=tangent,
        )  # fmt: skip
        assert error is None
        wx, wg, wn = (step.output() for _ in range(3))
        error = step.kernel(
            gpu, "langevin_backward", read=[w], written=[wx, wg, wn],
            grad_out=w, x_grad=wx, grad_grad=wg, noise_grad=wn,
        )  # fmt: skip
        assert error is None
        torch.testing.assert_close(w @ tangent, wx @ vx + wg @ vg + wn @ vn)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_philox_fill_equals_the_cpu_kernel(gpu, dtype):
    key = torch.tensor([11, 7])
    words = dtype == torch.int64
    for size, first in ((0, 0), (1, 0), (5, 3), (1024, 0), (1025, 6)):
        out = torch.zeros(size, dtype=dtype)
        args = PhiloxFill(DTYPES.get(dtype, 1), words, size, first, pointer(key), pointer(out))
        error = gpu.call("philox_fill", ctypes.byref(args), read=[key], written=[out])
        assert error is None
        if words:
            assert torch.equal(out, philox_words((size,), key, first_element=first))
        else:
            expected = philox_normal((size,), key, dtype=dtype, first_element=first)
            torch.testing.assert_close(out, expected, **TOLERANCE[dtype])


def sums(gpu: Device, name: str, count: int) -> tuple[str | None, torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 3, count)
    out = torch.zeros(-(-count // 128))
    error = gpu.call(name, x, out, count, read=[x], written=[out])
    expected = torch.stack([part.sum() for part in x.split(128)])
    return error, out, expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["block_sum", "tree_sum"])
def test_shared_memory_barriers_and_shuffles_work_in_any_order(gpu, name, seed):
    gpu.seed(seed)
    error, out, expected = sums(gpu, name, 300)
    assert error is None
    torch.testing.assert_close(out, expected)


def transpose(gpu: Device) -> tuple[str | None, torch.Tensor, torch.Tensor]:
    matrix = torch.arange(19.0 * 21).view(19, 21)
    out = torch.zeros(21, 19)
    error = gpu.call("transpose", matrix, out, 19, 21, False, read=[matrix], written=[out])
    return error, out, matrix.T


def test_a_tiled_transpose_works(gpu):
    error, out, expected = transpose(gpu)
    assert error is None
    assert torch.equal(out, expected)


def test_separate_arrays_in_shared_memory_are_told_apart(gpu):
    x, out = torch.arange(64.0), torch.zeros(64)
    assert gpu.call("rotate_pairs", x, out, read=[x], written=[out]) is None
    assert torch.equal(out, torch.cat([x[32:].roll(-1), x[:32].roll(-1)]))


@pytest.mark.parametrize("seed", range(3))
def test_atomics_and_counting_barriers(gpu, seed):
    gpu.seed(seed)
    values = torch.randint(0, 1000, (300,), generator=torch.Generator().manual_seed(1)).int()
    bins, odd = torch.zeros(7, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    error = gpu.call(
        "histogram", values, bins, odd, 300, 7, read=[values, bins, odd], written=[bins, odd]
    )
    assert error is None
    assert torch.equal(bins.long(), torch.bincount(values.long() % 7, minlength=7))
    assert odd.item() == (values % 2).sum()


def test_votes(gpu):
    values = torch.tensor([k if k % 3 else -k for k in range(32)], dtype=torch.int32)
    out = torch.full((32,), -1, dtype=torch.int32)
    error = gpu.call("compact_warp", values, out, read=[values, out], written=[out])
    assert error is None
    positive = values[values > 0]
    assert torch.equal(out, torch.nn.functional.pad(positive, (0, 32 - len(positive))))


@pytest.mark.parametrize("seed", range(3))
def test_a_grid_waits_for_itself(gpu, seed):
    gpu.seed(seed)
    x, sums = torch.linspace(0, 3, 200), torch.zeros(4)
    expected = x - x.mean()
    error = gpu.call("subtract_mean", x, sums, 200, read=[x, sums], written=[x, sums])
    assert error is None
    torch.testing.assert_close(x, expected)


@pytest.mark.parametrize("seed", range(3))
def test_fences_make_other_blocks_results_visible(gpu, seed):
    gpu.seed(seed)
    x, sums, total = torch.linspace(0, 3, 9), torch.zeros(9), torch.zeros(1)
    finished = torch.zeros(1, dtype=torch.int32)
    error = gpu.call(
        "last_block_sum", x, sums, finished, total, 9,
        read=[x, sums, finished], written=[sums, finished, total],
    )  # fmt: skip
    assert error is None
    torch.testing.assert_close(total, x.sum(0, keepdim=True))


KERNELS, ELEMENTWISE = "testing/test_kernels.cu", "cuda/elementwise.cuh"


@pytest.fixture(scope="module")
def faulty(executor_folder, tmp_path_factory) -> Device:
    faults = [
        (KERNELS, "__syncthreads();\n  if (warp > 0) return;", "if (warp > 0) return;"),
        (
            KERNELS,
            "partial[me] = at < count ? x[at] : 0.0f;",
            "if (at < count) partial[me] = x[at];",
        ),
        (
            KERNELS,
            "__syncthreads();\n  if (left + y < columns",
            "if (x > 0) __syncthreads();\n  if (left + y < columns",
        ),
        (ELEMENTWISE, "aligned && begin == 0 && end == 4", "begin == 0 && end == 4"),
    ]
    folder = tmp_path_factory.mktemp("faulty")
    return Device(build_faulty(executor_folder, folder, faults, [KERNELS, "cuda/langevin.cu"]))


def test_a_missing_barrier_is_caught(faulty):
    assert sums(faulty, "block_sum", 300)[0] is not None


def test_an_uninitialised_shared_read_is_caught(faulty):
    error = sums(faulty, "tree_sum", 300)[0]
    assert error is not None
    assert "initialised" in error


def test_a_divergent_barrier_is_caught(faulty):
    assert transpose(faulty)[0] is not None


def test_a_misaligned_vector_access_is_caught(faulty):
    step = Step("plain", 64, torch.float32, shift=1)
    out = step.output()
    error = step.kernel(faulty, "langevin_step", written=[out], out=out)
    assert error is not None
    assert "misaligned" in error


def test_an_off_by_one_tail_is_caught(executor_folder, tmp_path):
    text = "const int end = numel - at < 4 ? static_cast<int>(numel - at) : 4;"
    faults = [(ELEMENTWISE, text, text.replace("(numel - at)", "(numel - at) + 1"))]
    device = Device(build_faulty(executor_folder, tmp_path, faults, ["cuda/langevin.cu"]))
    step = Step("plain", 1021, torch.float32)
    out = step.output()
    error = step.kernel(device, "langevin_step", written=[out], out=out)
    assert error is not None
    assert "bounds" in error
