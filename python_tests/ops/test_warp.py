"""warp: the shared operator tests, closed forms, adjoint, grid_sample, CUDA kernels, errors."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler, shifted
from testing.op_tester import TOLERANCE, OpTester, expanded
from torch.nn import functional

from gencore.ops import backend, warp

PADDINGS = ("zeros", "border")


class TestWarp(OpTester):
    function = staticmethod(warp)
    overload = torch.ops.gencore.warp.default
    differentiable = ("x", "flow")
    variants = {padding: {"padding": padding} for padding in PADDINGS}  # noqa: RUF012
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        n, c, h, w = (*shape[:1], *(1,) * (4 - len(shape)), *shape[1:])
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(n, c, h, w, generator=generator, dtype=torch.float64)
        # Off the grid by a tenth, where finite differences see one of the kink's sides.
        whole = torch.randint(-3, 4, (n, 2, h, w), generator=generator)
        part = 0.1 + 0.8 * torch.rand(n, 2, h, w, generator=generator, dtype=torch.float64)
        return {"x": x.to(device, dtype), "flow": (whole + part).to(device, dtype)}

    def overload_arguments(self, variant, device):
        leaves = self.tensors(variant, (2, 3, 4, 5), torch.float64, device).values()
        return *(t.requires_grad_() for t in leaves), variant == "border"

    def test_backward_opcheck(self, variant, device):
        x, flow, border = self.overload_arguments(variant, device)
        grad = torch.randn_like(x).requires_grad_()
        overload = torch.ops.gencore.warp_backward.default
        for needs in ((True, True), (True, False), (False, True)):
            torch.library.opcheck(overload, (grad, x, flow, border, *needs))

    def test_derivatives_of_images(self, variant, device):
        function, leaves = self.leaves(variant, (2, 2, 4, 3), device)
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)

    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (3, 5, 40, 50), torch.float32, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 1):
                torch.set_num_threads(threads)
                y = self.call(variant, tensors)
                results.append(torch.autograd.grad(y, leaves, torch.ones_like(y) / 3))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))

    # The tester expands matrices, and images have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 2, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        assert torch.equal(self.call(variant, views), self.call(variant, copies))


def images(*shape, dtype=torch.float64, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(device, dtype)


def shift(x, right, down):
    flow = x.new_empty(x.shape[0], 2, *x.shape[2:])
    flow[:, 0], flow[:, 1] = right, down
    return flow


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_displacement_is_the_identity_bit_for_bit(padding, dtype, device):
    x = images(2, 3, 6, 200, dtype=dtype, device=device)
    x[0, 0, 0] = torch.tensor([-0.0, math.inf, math.nan, 1.0] * 50)
    y = warp(x, torch.zeros_like(x[:, :2]), padding=padding)
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    is_nan = x.isnan()
    assert torch.equal(y.view(bits)[~is_nan], x.view(bits)[~is_nan])
    assert y[is_nan].isnan().all()


@pytest.mark.parametrize(("right", "down"), [(2, 0), (-1, 3), (4, -2), (9, 0), (0, -9)])
def test_whole_displacements_are_shifts(right, down, device):
    x = images(2, 3, 7, 8, dtype=torch.float32, device=device)
    rows, columns = torch.arange(7) + down, torch.arange(8) + right
    nearest = x[:, :, rows.clamp(0, 6)][..., columns.clamp(0, 7)]
    inside = ((rows >= 0) & (rows < 7))[:, None] & ((columns >= 0) & (columns < 8))
    flow = shift(x, right, down)
    assert torch.equal(warp(x, flow, padding="border"), nearest)
    assert torch.equal(warp(x, flow), nearest.where(inside.to(device), 0.0))


def test_a_constant_image_does_not_change(device):
    x = torch.full((1, 2, 9, 8), 0.1, device=device)
    flow = 5 * images(1, 2, 9, 8, dtype=torch.float32, device=device)
    assert torch.equal(warp(x, flow, padding="border"), x)


def test_a_linear_ramp_is_warped_exactly(device):
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(12.0), indexing="ij")
    x = (3 * columns - 2 * rows).double().to(device)[None, None]
    flow = 2 * torch.rand(1, 2, 9, 12, dtype=torch.float64).to(device) - 1
    expected = x + 3 * flow[:, :1] - 2 * flow[:, 1:]
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(warp(x, flow)[inner], expected[inner], rtol=1e-13, atol=1e-13)
    back = warp(warp(x, flow), -flow)  # a field undoes itself on a ramp where it is constant
    assert back.shape == x.shape


def test_a_constant_field_and_its_opposite_restore_a_ramp(device):
    x = torch.arange(20.0, device=device).double().expand(1, 1, 10, 20)
    flow = shift(x, 1.25, -0.5)
    there_and_back = warp(warp(x, flow, padding="border"), -flow, padding="border")
    inner = (..., slice(2, -2), slice(3, -3))
    torch.testing.assert_close(there_and_back[inner], x[inner], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", PADDINGS)
def test_is_grid_sample_with_aligned_corners(padding, device):
    x = images(2, 3, 11, 14, device=device).requires_grad_()
    flow = (4 * images(2, 2, 11, 14, device=device)).requires_grad_()
    rows, columns = (torch.arange(n, device=device) for n in (11, 14))
    at = torch.stack([columns + flow[:, 0], rows[:, None] + flow[:, 1]], -1)
    grid = 2 * at / at.new_tensor([13, 10]) - 1
    expected = functional.grid_sample(x, grid, padding_mode=padding, align_corners=True)
    weights = images(2, 3, 11, 14, device=device)
    y = warp(x, flow, padding=padding)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
    ours, theirs = (torch.autograd.grad(r, (x, flow), weights) for r in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_gradient_is_the_adjoint(padding, device):
    x, g = images(2, 3, 13, 9, device=device), images(2, 3, 13, 9, device=device).flip(0)
    flow = 3 * images(2, 2, 13, 9, device=device)
    leaf = x.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(warp(leaf, flow, padding=padding), leaf, g)
    forward = (warp(x, flow, padding=padding) * g).sum()
    torch.testing.assert_close((x * adjoint).sum(), forward, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_displacements_that_are_not_finite(padding, device):
    x = 1 + images(1, 2, 5, 6, dtype=torch.float32, device=device).abs()
    flow = torch.zeros(1, 2, 5, 6, device=device)
    flow[0, 0, 1, :3] = torch.tensor([math.inf, -math.inf, math.nan])
    flow[0, 1, 3, 3] = 1e30
    y = warp(x, flow, padding=padding)
    edges = (x[..., 1, 5], x[..., 1, 0], x[..., 4, 3])
    for value, edge in zip((y[..., 1, 0], y[..., 1, 1], y[..., 3, 3]), edges, strict=True):
        assert torch.equal(value, edge if padding == "border" else 0 * edge)
    assert y[..., 1, 2].isnan().all()
    assert y.isnan().sum() == 2


def test_half_types_take_a_flow_in_float32(device):
    x = images(1, 2, 40, 300, dtype=torch.bfloat16, device=device).requires_grad_()
    flow = (5 * images(1, 2, 40, 300, dtype=torch.float32, device=device)).requires_grad_()
    y = warp(x, flow)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, warp(x.float(), flow).bfloat16(), rtol=0, atol=0)
    grads = torch.autograd.grad(y.float().sum(), (x, flow))
    assert [g.dtype for g in grads] == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty_images(shape, device):
    x = torch.zeros(shape, device=device, requires_grad=True)
    flow = x.new_zeros(shape[0], 2, *shape[2:]).requires_grad_()
    for name in ("native", "reference"):
        with backend(name):
            y = warp(x, flow)
        assert y.shape == x.shape
        grads = torch.autograd.grad(y.sum(), (x, flow))
        assert not any(g.any() for g in grads)


X, FLOW = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"warp: x has shape \[3, 4, 5\], expected \[N, C, H, W\]"),
        ({"flow": FLOW[:1]}, ValueError, r"warp: flow has shape \[1, 2, 4, 5\], expected \[2, 2"),
        ({"flow": X}, ValueError, r"warp: flow has shape \[2, 3, 4, 5\], expected \[2, 2, 4, 5\]"),
        ({"flow": FLOW.double()}, TypeError, "warp: flow is torch.float64, expected torch.float32"),
        ({"flow": FLOW.long()}, TypeError, "warp: flow is torch.int64"),
        ({"flow": None}, TypeError, "warp: flow must be a tensor, got NoneType"),
        ({"x": X.int()}, TypeError, "warp: x is torch.int32"),
        ({"flow": FLOW.to("meta")}, ValueError, "warp: flow is on meta, x on cpu"),
        ({"mode": "cubic"}, ValueError, "warp: mode"),
        ({"padding": "reflect"}, ValueError, "warp: padding"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"x": X, "flow": FLOW, **arguments}
    with pytest.raises(error, match=message):
        warp(**given)


# The CUDA kernels, executed on the host.


def _structure(*pointers):
    numbers = [(name, ctypes.c_int64) for name in ("images", "channels", "height", "width")]
    fields = [("dtype", ctypes.c_int), ("border", ctypes.c_bool), *numbers]
    fields += [(name, ctypes.c_void_p) for name in ("x", "flow", *pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "warp": _structure("out"),
    "warp_flow_backward": _structure("grad_out", "flow_grad"),
    "warp_x_backward": _structure("grad_out", "x_grad", "largest", "sums"),
}
on_the_host = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def run(gpu: Device, name: str, x, padding: str, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    images, channels, height, width = x.shape
    arguments = STRUCTURES[name](
        dtype=DTYPES[x.dtype], border=padding == "border", images=images, channels=channels,
        height=height, width=width, **places,
    )  # fmt: skip
    # The integers are added to in place.
    tensors = [*read.values(), *(t for field, t in written.items() if field == "sums")]
    error = gpu.call(name, ctypes.byref(arguments), read=tensors, written=list(written.values()))
    assert error is None, error


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestCudaKernels:
    pytestmark = on_the_host

    @staticmethod
    def operands(dtype, shape=(2, 11, 5, 9)):
        """Some samples are far outside, and some pixels are read by many."""
        x = shifted(images(*shape, dtype=dtype), 1)
        flow = 4 * images(shape[0], 2, *shape[2:], dtype=accumulation(dtype))
        flow[0, :, 0] = -100.0
        return x, flow

    def test_forward(self, padding, dtype, gpu):
        x, flow = self.operands(dtype)
        out = torch.full_like(x, math.nan)
        run(gpu, "warp", x, padding, {"x": x, "flow": flow}, {"out": out})
        expected = warp(x, flow, padding=padding)
        torch.testing.assert_close(out, expected, **TOLERANCE[dtype])

    def test_backward(self, padding, dtype, gpu):
        x, flow = self.operands(dtype)
        grad = images(*x.shape, dtype=dtype).flip(0).contiguous()
        wide = accumulation(dtype)
        flow_grad = torch.full_like(flow, math.nan)
        operands = {"x": x, "flow": flow, "grad_out": grad}
        run(gpu, "warp_flow_backward", x, padding, operands, {"flow_grad": flow_grad})
        x_grads = []
        for seed in (1, 2):  # the order in which threads run
            gpu.seed(seed)
            x_grad = torch.full(x.shape, math.nan, dtype=wide)
            workspace = {
                "largest": torch.full(x.shape[:2], math.nan, dtype=torch.float64),
                "sums": torch.zeros(x.shape, dtype=torch.int64),
            }
            read = {"flow": flow, "grad_out": grad}
            run(gpu, "warp_x_backward", x, padding, read, {"x_grad": x_grad, **workspace})
            x_grads.append(x_grad)
        assert torch.equal(*x_grads)
        leaves = [x.clone().requires_grad_(), flow.clone().requires_grad_()]
        y = warp(*leaves, padding=padding)
        expected = torch.autograd.grad(y, leaves, grad)
        torch.testing.assert_close(x_grads[0].to(dtype), expected[0], **TOLERANCE[dtype])
        torch.testing.assert_close(flow_grad, expected[1], **TOLERANCE[wide])


@pytest.mark.parametrize(
    ("scale", "displacement"),
    [
        (0.0, -10.0),
        (1e-300, -10.0),
        (1e300, -10.0),
        (math.inf, 0.0),
        (math.nan, 0.0),
        (1.0, math.nan),
    ],
)
class TestCudaScale:
    pytestmark = on_the_host

    def test_integers_have_room_for_any_gradient(self, scale, displacement, gpu):
        x = images(1, 1, 3, 4)
        flow = torch.full((1, 2, 3, 4), displacement, dtype=torch.float64)
        grad = images(1, 1, 3, 4) * scale
        x_grad = torch.full_like(x, math.nan)
        workspace = {
            "largest": torch.full((1, 1), math.nan, dtype=torch.float64),
            "sums": torch.zeros(x.shape, dtype=torch.int64),
        }
        read = {"flow": flow, "grad_out": grad}
        run(gpu, "warp_x_backward", x, "border", read, {"x_grad": x_grad, **workspace})
        if math.isfinite(scale * displacement):  # all samples are in a corner
            assert not x_grad.flatten()[1:].any()
            torch.testing.assert_close(x_grad[0, 0, 0, 0], grad.sum(), rtol=1e-12, atol=0)
        else:
            assert x_grad.isnan().all()
