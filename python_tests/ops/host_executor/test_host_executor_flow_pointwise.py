"""The pointwise CUDA kernels of normalizing flows, executed on the host."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, Noise, build_faulty, compiler, shifted
from testing.op_tester import TOLERANCE
from torch import Tensor

from gencore.ops import actnorm, dequantize, gaussian_nll, squeeze2d, unsqueeze2d

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def structure(*fields: tuple[str, type]) -> type[ctypes.Structure]:
    return type("Arguments", (ctypes.Structure,), {"_fields_": list(fields)})


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


def integers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_int64) for name in names]


_PLANES = [
    ("dtype", ctypes.c_int), ("inverse", ctypes.c_bool),
    *integers("images", "channels", "positions"),
]  # fmt: skip
STRUCTURES = {
    "actnorm_scales": structure(*_PLANES, *pointers("log_scale", "scale", "log_det")),
    "actnorm": structure(*_PLANES, *integers("numel"), *pointers("x", "scale", "bias", "out")),
    "actnorm_backward": structure(
        *_PLANES, *pointers("grad_out", "x", "scale", "grad_x"), *integers("parts"),
        *pointers("sums"),
    ),
    "actnorm_parameters": structure(
        *_PLANES, *pointers("scale", "bias", "grad_log_det"), *integers("parts"),
        *pointers("sums", "grad_log_scale", "grad_bias"),
    ),
    "squeeze2d": structure(
        ("inverse", ctypes.c_bool), ("element_bytes", ctypes.c_int),
        *integers("rows", "height", "width", "factor"), *pointers("x", "out"),
    ),
    "gaussian_nll": structure(
        ("dtype", ctypes.c_int), *integers("chains", "chain_size"),
        *pointers("z", "log_det", "out"),
    ),
    "dequantize": structure(
        ("dtype", ctypes.c_int), *integers("numel", "bins"), *pointers("x"), ("noise", Noise),
        *pointers("out", "is_invalid"),
    ),
}  # fmt: skip


def run(gpu: Device, name: str, numbers: dict, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    arguments = STRUCTURES[name](**numbers, **places)
    error = gpu.call(
        name, ctypes.byref(arguments), read=list(read.values()), written=list(written.values())
    )
    assert error is None, error


def unwritten(like: Tensor, shift: int = 0) -> Tensor:
    return shifted(torch.full(like.shape, math.nan, dtype=like.dtype), shift)


def normals(shape, dtype, shift=0, seed=1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shifted(torch.randn(shape, generator=generator).to(dtype), shift)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


PLANES = (
    (0, 3, 4), (3, 2, 0), (3, 0, 5), (1, 1, 1), (5, 3, 1), (70, 40, 1), (3, 5, 3), (7, 3, 64),
    (2, 2, 1201), (2, 2, 1024),
)  # fmt: skip


@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "offset"])
@pytest.mark.parametrize("shape", PLANES, ids=str)
def test_actnorm(gpu, shape, shift, inverse):
    check_actnorm(gpu, torch.float32, shape, shift, inverse)


@pytest.mark.parametrize("shape", [(5, 3, 1), (3, 5, 3), (2, 3, 201)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_actnorm_of_every_dtype(gpu, dtype, shape):
    for shift, inverse in ((0, True), (1, False)):
        check_actnorm(gpu, dtype, shape, shift, inverse)


def check_actnorm(gpu, dtype, shape, shift, inverse):
    images, channels, positions = shape
    numbers = {
        "dtype": DTYPES[dtype], "inverse": inverse, "images": images, "channels": channels,
        "positions": positions,
    }  # fmt: skip
    x, grad = normals(shape, dtype, shift), normals(shape, dtype, shift, seed=2)
    log_scale, bias = (0.5 * normals((2, channels), wide(dtype), seed=3)).unbind(0)
    log_scale, bias = log_scale.clone(), bias.clone()
    grad_log_det = normals((images,), wide(dtype), seed=4)
    leaves = [t.clone().requires_grad_() for t in (x, log_scale, bias)]
    y, log_det = actnorm(*leaves, inverse=inverse)
    expected = torch.autograd.grad((y, log_det), leaves, (grad, grad_log_det))
    y, log_det = y.detach(), log_det.detach()

    scale, ours_log_det = unwritten(log_scale), unwritten(log_det)
    written = {"scale": scale, "log_det": ours_log_det}
    run(gpu, "actnorm_scales", numbers, {"log_scale": log_scale}, written)
    out = unwritten(x, shift)
    run(
        gpu, "actnorm", {**numbers, "numel": x.numel()},
        {"x": x, "scale": scale, "bias": bias}, {"out": out},
    )  # fmt: skip
    torch.testing.assert_close(ours_log_det, log_det, **TOLERANCE[wide(dtype)])
    torch.testing.assert_close(out, y, **TOLERANCE[dtype])

    # Any number of parts is right: few here, so that blocks and threads take several turns.
    for parts in (1, 3):
        parts = 0 if images * positions == 0 else parts
        sums = torch.full((parts, channels, 2), math.nan, dtype=torch.float64)
        grad_x = unwritten(x, shift)
        run(
            gpu, "actnorm_backward", {**numbers, "parts": parts},
            {"grad_out": grad, "x": x, "scale": scale}, {"grad_x": grad_x, "sums": sums},
        )  # fmt: skip
        grads = {"grad_log_scale": unwritten(bias), "grad_bias": unwritten(bias)}
        run(
            gpu, "actnorm_parameters", {**numbers, "parts": parts},
            {"scale": scale, "bias": bias, "grad_log_det": grad_log_det, "sums": sums}, grads,
        )  # fmt: skip
        torch.testing.assert_close(grad_x, expected[0], **TOLERANCE[dtype])
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5  # float32 terms, summed in any order
        for ours, theirs in zip(grads.values(), expected[1:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance)


WORDS = (torch.uint8, torch.int16, torch.float32, torch.float64, torch.complex128)


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "offset"])
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(0, 1, 2, 2), (1, 1, 1, 1), (3, 2, 3, 5), (2, 3, 8, 17)], ids=str
)
@pytest.mark.parametrize("dtype", WORDS, ids=str)
def test_squeeze2d(gpu, dtype, shape, factor, shift):
    n, c, h, w = shape
    x = torch.arange(n * c * h * w * factor**2).remainder(251).to(dtype)
    x = shifted(x.view(n, c, h * factor, w * factor), shift)
    y = shifted(squeeze2d(x, factor), shift)
    assert torch.equal(unsqueeze2d(y, factor), x)
    for inverse, operand, expected in ((False, x, y), (True, y, x)):
        numbers = {
            "inverse": inverse, "element_bytes": x.element_size(), "rows": n * c * h * factor,
            "height": h * factor, "width": w * factor, "factor": factor,
        }  # fmt: skip
        out = shifted(torch.zeros_like(expected), shift)
        run(gpu, "squeeze2d", numbers, {"x": operand}, {"out": out})
        assert torch.equal(out, expected)


CHAINS = ((0, 3), (3, 0), (1, 1), (300, 1), (7, 3), (3, 33), (3, 128), (2, 129), (2, 1200))


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "offset"])
@pytest.mark.parametrize("shape", CHAINS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gaussian_nll(gpu, dtype, shape, shift):
    z, log_det = normals(shape, dtype, shift), normals(shape[:1], wide(dtype), seed=2)
    out = unwritten(log_det)
    numbers = {"dtype": DTYPES[dtype], "chains": shape[0], "chain_size": shape[1]}
    run(gpu, "gaussian_nll", numbers, {"z": z, "log_det": log_det}, {"out": out})
    torch.testing.assert_close(out, gaussian_nll(z, log_det), **TOLERANCE[wide(dtype)])


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "offset"])
@pytest.mark.parametrize("first", [0, 3, 2**40 + 1])
@pytest.mark.parametrize("given", [False, True], ids=["philox", "given noise"])
@pytest.mark.parametrize("size", [0, 1, 5, 1027])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dequantize(gpu, dtype, size, given, first, shift):
    generator = torch.Generator().manual_seed(1)
    for bins in (256, 200):
        x = torch.randint(bins, (size,), generator=generator, dtype=torch.uint8)
        x, key = shifted(x, shift), torch.tensor([3, 4])
        out = shifted(torch.full((size,), math.nan, dtype=dtype), shift)
        if given:
            noise = shifted(torch.rand(size, generator=generator, dtype=dtype), shift)
            read, expected = {"x": x, "noise": noise}, {"noise": noise}
        else:
            read, expected = {"x": x, "key": key}, {"key": key, "first_element": first}
        arguments = STRUCTURES["dequantize"](
            dtype=DTYPES[dtype], numel=size, bins=bins, x=x.data_ptr(), out=out.data_ptr()
        )
        places = (noise.data_ptr(), None, 0) if given else (None, key.data_ptr(), first)
        arguments.noise = Noise(*places)
        error = gpu.call(
            "dequantize", ctypes.byref(arguments), read=list(read.values()), written=[out]
        )
        assert error is None, error
        assert torch.equal(out, dequantize(x, bins=bins, dtype=dtype, **expected)[0])


FAULTS = {
    "a missing barrier": (
        "cuda/actnorm.cu", "  rows[1][row][lane] = product;\n  __syncthreads();",
        "  rows[1][row][lane] = product;",
    ),
    "another channel's plane": (
        "cuda/actnorm.cu", "plane = image * args.channels + channel;",
        "plane = image * args.channels + channel + 1;",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, executor_folder, tmp_path):
    gpu = Device(build_faulty(executor_folder, tmp_path, [FAULTS[fault]]))
    shape = (40, 40, 1) if fault == "a missing barrier" else (3, 2, 16)
    images, channels, positions = shape
    x, scale = normals(shape, torch.float32), torch.ones(channels)
    sums = torch.full((1, channels, 2), math.nan, dtype=torch.float64)
    numbers = {
        "dtype": DTYPES[torch.float32], "inverse": False, "images": images, "channels": channels,
        "positions": positions, "parts": 1,
    }  # fmt: skip
    read = {"grad_out": x, "x": x.clone(), "scale": scale}
    with pytest.raises(AssertionError, match=r"race|bounds|initialised"):
        run(gpu, "actnorm_backward", numbers, read, {"grad_x": unwritten(x), "sums": sums})
