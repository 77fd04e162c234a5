"""The CUDA kernels of affine couplings and gated steps, executed on the host."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, build_faulty, compiler
from testing.op_tester import TOLERANCE
from torch import Tensor

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]

_ops = torch.ops.gencore
KINDS = ("exponential", "bounded", "gated")
BOUND = 1.5
# Rows of one thread, a part of a warp, a warp, a block, and several pieces; last groups whole and
# not; no rows and no elements.
SHAPES = (
    (0, 3, 1, 1), (3, 0, 1, 1), (2, 1, 1, 1), (5, 3, 1, 1), (3, 2, 3, 3), (2, 4, 4, 4),
    (2, 5, 3, 7), (1, 4, 8, 80),
)  # fmt: skip
PIECE = 512  # of a row: in the operators it is larger


class Rows(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("stride", ctypes.c_int64)]


def structure(name: str, *results: str) -> type[ctypes.Structure]:
    fields = [
        ("dtype", ctypes.c_int), ("kind", ctypes.c_int), ("inverse", ctypes.c_bool),
        ("bound", ctypes.c_double),
        *((n, ctypes.c_int64) for n in (
            "rows", "begin", "size", "rest_begin", "rest_size", "height", "width")),
        ("passing", ctypes.c_int), ("piece", ctypes.c_int64), ("pieces", ctypes.c_int64),
        ("sums", ctypes.c_void_p), ("x", Rows), ("raw", Rows), ("shift", Rows),
        *((n, ctypes.c_void_p if n == "grad_log_det" else Rows) for n in results),
    ]  # fmt: skip
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "affine_coupling": structure("AffineCoupling", "out"),
    "affine_coupling_backward": structure(
        "AffineCouplingBackward", "grad_out", "grad_log_det", "x_grad", "raw_grad", "shift_grad",
        "x_out",
    ),
    "affine_coupling_double_backward": structure(
        "AffineCouplingDoubleBackward", "grad_out", "grad_log_det", "x_tangent", "raw_tangent",
        "shift_tangent", "grad_out_grad", "x_grad", "raw_grad", "shift_grad",
    ),
    "piece_sums": type(
        "PieceSums", (ctypes.Structure,),
        {"_fields_": [
            ("dtype", ctypes.c_int), ("rows", ctypes.c_int64), ("pieces", ctypes.c_int64),
            ("sums", ctypes.c_void_p), ("out", ctypes.c_void_p),
        ]},
    ),
}  # fmt: skip


class Coupling:
    """Operands of the family, as the operators and as the kernels want them."""

    def __init__(self, shape, dtype, kind, *, inverse=False, mask=0, swap=False, shift=0) -> None:
        self.shape, self.dtype, self.offset = shape, dtype, shift
        self.settings = (KINDS.index(kind), BOUND, inverse, mask, swap, False)
        n, c, h, w = shape
        plane, first = h * w, c - c // 2
        whole = c * plane
        begin, size = 0, whole
        if mask == 1:
            begin = 0 if swap else first * plane
            size = (first if swap else c - first) * plane
        self.part = (n, size // plane if plane else 0, h, w)
        rest_begin = 0 if mask != 1 else (first * plane if swap else 0)
        pieces = max(1, -(-max(size, whole - size) // PIECE))
        self.pieces = pieces
        self.numbers = {
            "dtype": DTYPES[dtype], "kind": KINDS.index(kind), "inverse": inverse, "bound": BOUND,
            "rows": n, "begin": begin, "size": size, "rest_begin": rest_begin,
            "rest_size": whole - size, "height": h if mask == 2 else 0,
            "width": w if mask == 2 else 0, "passing": int(swap), "piece": PIECE, "pieces": pieces,
        }  # fmt: skip
        self.generator = torch.Generator().manual_seed(sum(shape))

    def _place(self, values: Tensor) -> Tensor:
        """A copy that begins ``offset`` elements after an aligned address."""
        room = torch.zeros(values.numel() + self.offset, dtype=values.dtype)
        room[self.offset :] = values.flatten()
        return room[self.offset :].view(values.shape)

    def normal(self, shape=None) -> Tensor:
        values = torch.randn(self.shape if shape is None else shape, generator=self.generator)
        return self._place(values.to(self.dtype))

    def parts(self, count: int) -> list[Tensor]:
        return [self.normal(self.part) for _ in range(count)]

    def row_entries(self) -> Tensor:
        values = torch.randn(self.shape[0], generator=self.generator)
        return values.to(accumulation(self.dtype))

    def empty(self, shape=None) -> Tensor:
        shape = self.shape if shape is None else shape
        return self._place(torch.full(shape, math.nan, dtype=self.dtype))

    def run(self, gpu: Device, name: str, read: dict, written: dict, *, sums: bool) -> Tensor:
        """Call a kernel on tensors by the names of their fields; the sums over its rows."""
        wide = accumulation(self.dtype)
        rows = self.shape[0]
        several = self.pieces > 1
        partial = torch.full(
            (rows * self.pieces,), math.nan, dtype=torch.float64 if several else wide
        )
        tensors = {**read, **written}
        fields = {
            n: t.data_ptr() if n == "grad_log_det" else Rows(t.data_ptr(), t[:1].numel())
            for n, t in tensors.items()
        }
        args = STRUCTURES[name](**self.numbers, **fields, sums=partial.data_ptr() if sums else None)
        outputs = [*written.values(), *([partial] if sums else [])]
        error = gpu.call(name, ctypes.byref(args), read=list(read.values()), written=outputs)
        assert error is None
        if not sums or not several:
            return partial
        out = torch.full((rows,), math.nan, dtype=wide)
        args = STRUCTURES["piece_sums"](
            DTYPES[self.dtype], rows, self.pieces, partial.data_ptr(), out.data_ptr()
        )
        assert gpu.call("piece_sums", ctypes.byref(args), read=[partial], written=[out]) is None
        return out


def assert_close(ours, expected) -> None:
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[a.dtype])


def check_all(gpu: Device, case: Coupling) -> None:
    """Every kernel against the CPU's."""
    x, grad_y = case.normal(), case.normal()
    raw, shift = case.parts(2)
    h = case.row_entries()
    out = case.empty()
    operands = {"x": x, "raw": raw, "shift": shift}
    log_det = case.run(gpu, "affine_coupling", operands, {"out": out}, sums=True)
    expected = _ops.affine_coupling(x, raw, shift, *case.settings)
    assert_close((out, log_det), expected)

    grads = {"grad_out": grad_y, "grad_log_det": h}
    x_grad, raw_grad, shift_grad = case.empty(), case.empty(case.part), case.empty(case.part)
    results = {"x_grad": x_grad, "raw_grad": raw_grad, "shift_grad": shift_grad}
    case.run(gpu, "affine_coupling_backward", {**operands, **grads}, results, sums=False)
    saved = (grad_y, h, x, raw, shift)
    expected = _ops.affine_coupling_backward(*saved, *case.settings, True, True, True)
    assert_close((x_grad, raw_grad, shift_grad), expected)

    if not case.settings[2]:
        x_out = case.empty()
        read, written = {**operands, "x": out, **grads}, {**results, "x_out": x_out}
        case.run(gpu, "affine_coupling_backward", read, written, sums=False)
        expected = _ops.affine_coupling_backward_from_output(
            out, raw, shift, grad_y, h, *case.settings, True
        )
        assert_close((x_out, x_grad, raw_grad, shift_grad), expected)

    a, (b, c), grad_out_grad = case.normal(), case.parts(2), case.empty()
    tangents = {"x_tangent": a, "raw_tangent": b, "shift_tangent": c}
    log_det_grad = case.run(
        gpu, "affine_coupling_double_backward", {**operands, **grads, **tangents},
        {"grad_out_grad": grad_out_grad, **results}, sums=True,
    )  # fmt: skip
    first = case.settings[2] or case.settings[0] == 2
    expected = _ops.affine_coupling_double_backward(a, b, c, *saved, *case.settings)
    ours = (grad_out_grad, log_det_grad, x_grad, raw_grad, shift_grad)
    if not first:
        assert not shift_grad.any()
        ours, expected = ours[:-1], expected[:-1]
    for got, wanted in zip(ours, expected, strict=True):
        # Products of four numbers: a few more roundings than one result's.
        limits = {name: 8 * value for name, value in TOLERANCE[got.dtype].items()}
        torch.testing.assert_close(got, wanted, **limits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inverse", [False, True])
def test_kernels_equal_the_cpu_kernels(gpu, kind, inverse):
    for dtype in DTYPES:
        for shape in SHAPES:
            check_all(gpu, Coupling(shape, dtype, kind, inverse=inverse))


@pytest.mark.parametrize("mask", [1, 2])
@pytest.mark.parametrize("swap", [False, True])
def test_masked_kernels_equal_the_cpu_kernels(gpu, mask, swap):
    for shape in SHAPES:
        for inverse in (False, True):
            case = {"inverse": inverse, "mask": mask, "swap": swap}
            check_all(gpu, Coupling(shape, torch.float32, "bounded", **case))
    check_all(gpu, Coupling((2, 4, 4, 4), torch.bfloat16, "exponential", mask=mask, swap=swap))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernels_off_alignment(gpu, dtype):
    for mask in range(3):
        check_all(gpu, Coupling((2, 4, 4, 4), dtype, "bounded", mask=mask, shift=1))


def test_missing_gradients_and_results_are_left_out(gpu):
    case = Coupling((2, 4, 4, 4), torch.float32, "bounded", mask=1)
    x, h = case.normal(), case.row_entries()
    raw, _ = case.parts(2)
    raw_grad = case.empty(case.part)
    operands = {"x": x, "raw": raw, "grad_log_det": h}
    case.run(gpu, "affine_coupling_backward", operands, {"raw_grad": raw_grad}, sums=False)
    expected = _ops.affine_coupling_backward(
        None, h, x, raw, None, *case.settings, False, True, False
    )[1]
    assert_close([raw_grad], [expected])


FAULTS = {
    "another row's element": ("size < from + args.piece ? size :", "size < 0 ? size :"),
    "a group beyond the row": ("to - at < 4 ? static_cast<int>(to - at) : 4;", "4;"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, executor_folder, tmp_path):
    gpu = Device(
        build_faulty(executor_folder, tmp_path, [("cuda/affine_coupling.cu", *FAULTS[fault])])
    )
    case = Coupling((2, 3, 3, 3), torch.float32, "bounded")
    x, (raw, shift), out = case.normal(), case.parts(2), case.empty()
    operands = {"x": x, "raw": raw, "shift": shift}
    with pytest.raises(AssertionError, match=r"race|bounds|initialised"):
        case.run(gpu, "affine_coupling", operands, {"out": out}, sums=True)
