"""warp: the shared operator tests, closed forms, adjoint, grid_sample, CUDA kernels, errors."""

import ctypes
import functools
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler, shifted
from testing.op_tester import TOLERANCE, OpTester, expanded
from torch.nn import functional

from gencore.ops import backend, warp

PADDINGS = ("zeros", "border")
_ops = torch.ops.gencore


def off_the_grid(*shape):
    """Displacements a tenth of a pixel from whole ones, where finite differences see one side."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.randint(-3, 4, shape, generator=generator)
    return whole + 0.1 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)


class TestWarp(OpTester):
    function = staticmethod(warp)
    overload = torch.ops.gencore.warp.default
    differentiable = ("x", "flow")
    variants = {padding: {"padding": padding} for padding in PADDINGS}  # noqa: RUF012
    traced = ("border",)
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        n, c, *sizes = (*shape[:1], *(1,) * (4 - len(shape)), *shape[1:])
        x = images(n, c, *sizes)
        flow = off_the_grid(n, len(sizes), *sizes)
        return {"x": x.to(device, dtype), "flow": flow.to(device, dtype)}

    def overload_arguments(self, variant, device):
        leaves = self.tensors(variant, (2, 3, 4, 5), torch.float64, device).values()
        return *(t.requires_grad_() for t in leaves), variant == "border"

    def test_backward_opcheck(self, variant, device):
        x, flow, border = self.overload_arguments(variant, device)
        grad = torch.randn_like(x).requires_grad_()
        overload = torch.ops.gencore.warp_backward.default
        for needs in ((True, True), (True, False), (False, True)):
            torch.library.opcheck(overload, (grad, x, flow, border, *needs))

    @pytest.mark.parametrize("shape", [(2, 2, 4, 3), (1, 2, 2, 3, 4)], ids=("image", "volume"))
    def test_derivatives(self, variant, shape, device):
        function, leaves = self.leaves(variant, shape, device)
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)

    def test_derivatives_with_several_fields(self, variant, device):
        x = images(2, 2, 3, 3, device=device).requires_grad_()
        flow = off_the_grid(2, 3, 2, 3, 3).to(device).requires_grad_()
        function = functools.partial(warp, **self.variants[variant])
        assert torch.autograd.gradcheck(function, (x, flow))
        assert torch.autograd.gradgradcheck(function, (x, flow))

    def test_matches_the_reference_in_volumes(self, variant, device):
        tensors = self.tensors(variant, (2, 5, 3, 7, 30), torch.float64, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        y = self.call(variant, tensors)
        with backend("reference"):
            expected = self.call(variant, tensors)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        weights = torch.randn_like(y)
        ours, theirs = (torch.autograd.grad(r, leaves, weights) for r in (y, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("shape", [(3, 5, 40, 50), (1, 20, 6, 20, 30)], ids=str)
    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, shape, device):
        tensors = self.tensors(variant, shape, torch.float32, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3, 1):
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


def shift(x, *by):
    """The same displacement everywhere: to the right, down, deeper."""
    return x.new_tensor(by).view(-1, *[1] * len(by)).expand(x.shape[0], -1, *x.shape[2:])


BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 6, 200), (1, 18, 3, 5, 40)], ids=("image", "volume"))
def test_no_displacement_is_the_identity_bit_for_bit(shape, padding, dtype, device):
    x = images(*shape, dtype=dtype, device=device)
    x.view(-1)[: shape[-1]] = torch.tensor([-0.0, math.inf, math.nan, 1.0]).repeat(shape[-1] // 4)
    y = warp(x, x.new_zeros(shape[0], len(shape) - 2, *shape[2:]), padding=padding)
    bits = BITS[x.element_size()]
    is_nan = x.isnan()
    assert torch.equal(y.view(bits)[~is_nan], x.view(bits)[~is_nan])
    assert y[is_nan].isnan().all()


def moved(x, by, padding):
    """Samples at whole displacements, by indices along each axis."""
    for dim, offset in zip(range(-1, -4, -1), by, strict=False):
        at = torch.arange(x.shape[dim]) + offset
        inside = (at >= 0) & (at < x.shape[dim])
        x = x.index_select(dim, at.clamp(0, x.shape[dim] - 1).to(x.device))
        if padding == "zeros":
            x = x.where(inside.to(x.device).view(-1, *[1] * (-1 - dim)), 0.0)
    return x


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "by", [(2, 0), (-1, 3), (4, -2), (9, 0), (0, -9), (1, 2, -1), (-3, 0, 2), (0, 0, 5)], ids=str
)
def test_whole_displacements_are_shifts(by, padding, device):
    x = images(2, 5, *(5, 7, 8)[-len(by) :], dtype=torch.float32, device=device)
    assert torch.equal(warp(x, shift(x, *by), padding=padding), moved(x, by, padding))


@pytest.mark.parametrize("shape", [(1, 2, 9, 8), (1, 2, 4, 6, 7)], ids=str)
def test_a_constant_image_does_not_change(shape, device):
    x = torch.full(shape, 0.1, device=device)
    rank = len(shape) - 2
    flow = 5 * images(1, rank, *shape[2:], dtype=torch.float32, device=device)
    flow.requires_grad_()
    y = warp(x, flow, padding="border")
    assert torch.equal(y, x)
    (grad,) = torch.autograd.grad(y.sum(), flow)
    assert not grad.any()


@pytest.mark.parametrize("sizes", [(9, 12), (6, 7, 8)], ids=str)
def test_a_linear_ramp_is_warped_exactly(sizes, device):
    slopes = (3, -2, 5)[: len(sizes)]  # along the last dimension first
    places = torch.meshgrid(*(torch.arange(n).double() for n in sizes), indexing="ij")
    x = sum(slope * place for slope, place in zip(slopes, reversed(places), strict=True))
    x = x.to(device)[None, None]
    flow = (2 * torch.rand(1, len(sizes), *sizes, dtype=torch.float64) - 1).to(device)
    flow.requires_grad_()
    y = warp(x, flow)
    inner = (..., *[slice(1, -1)] * len(sizes))
    steps = flow.new_tensor(slopes).view(-1, *[1] * len(sizes))
    expected = x + (flow * steps).sum(1, keepdim=True)
    torch.testing.assert_close(y[inner], expected[inner], rtol=1e-13, atol=1e-13)
    (grad,) = torch.autograd.grad(y[inner].sum(), flow)
    torch.testing.assert_close(grad[inner], steps.expand_as(grad[0])[None][inner])


def test_a_constant_field_and_its_opposite_restore_a_ramp(device):
    x = torch.arange(20.0, device=device).double().expand(1, 1, 10, 20)
    flow = shift(x, 1.25, -0.5)
    there_and_back = warp(warp(x, flow, padding="border"), -flow, padding="border")
    inner = (..., slice(2, -2), slice(3, -3))
    torch.testing.assert_close(there_and_back[inner], x[inner], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", [(11, 14), (5, 6, 9)], ids=("image", "volume"))
@pytest.mark.parametrize("channels", [3, 18])
def test_is_grid_sample_with_aligned_corners(channels, sizes, padding, device):
    x = images(2, channels, *sizes, device=device).requires_grad_()
    flow = (4 * images(2, len(sizes), *sizes, device=device)).requires_grad_()
    places = torch.meshgrid(*(torch.arange(n, device=device) for n in sizes), indexing="ij")
    at = torch.stack(places[::-1], -1) + flow.movedim(1, -1)
    grid = 2 * at / (at.new_tensor(sizes[::-1]) - 1) - 1
    expected = functional.grid_sample(x, grid, padding_mode=padding, align_corners=True)
    weights = images(2, channels, *sizes, device=device)
    y = warp(x, flow, padding=padding)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
    ours, theirs = (torch.autograd.grad(r, (x, flow), weights) for r in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", [(13, 9), (4, 6, 9)], ids=("image", "volume"))
def test_the_gradient_is_the_adjoint(sizes, padding, device):
    x, g = images(2, 3, *sizes, device=device), images(2, 3, *sizes, device=device).flip(0)
    flow = 3 * images(2, len(sizes), *sizes, device=device)
    leaf = x.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(warp(leaf, flow, padding=padding), leaf, g)
    forward = (warp(x, flow, padding=padding) * g).sum()
    torch.testing.assert_close((x * adjoint).sum(), forward, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", [(7, 40), (3, 5, 8)], ids=("image", "volume"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_several_fields_are_warped_one_by_one(dtype, sizes, padding, device):
    x = images(2, 5, *sizes, dtype=dtype, device=device).requires_grad_()
    flow = 2 * images(2, 3, len(sizes), *sizes, dtype=torch.float32, device=device)
    flow.requires_grad_()
    y = warp(x, flow, padding=padding)
    weights = torch.randn_like(y)
    single = torch.stack([warp(x, flow[:, k], padding=padding) for k in range(3)], 1)
    assert torch.equal(y, single)
    x_grad, flow_grad = torch.autograd.grad(y, (x, flow), weights)
    assert torch.equal(flow_grad, torch.autograd.grad(single, flow, weights)[0])
    # The sum over fields is rounded once.
    wide = x.detach().float().requires_grad_()
    single = torch.stack([warp(wide, flow[:, k], padding=padding) for k in range(3)], 1)
    (expected,) = torch.autograd.grad(single, wide, weights.float())
    torch.testing.assert_close(x_grad, expected.to(dtype), **TOLERANCE[dtype])
    with backend("reference"):
        reference = warp(x, flow, padding=padding)
    torch.testing.assert_close(y, reference, **TOLERANCE[dtype])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_displacements_that_are_not_finite(padding, native, device):
    x = (1 + images(1, 2, 5, 6, dtype=torch.float32, device=device).abs()).requires_grad_()
    flow = torch.zeros(1, 2, 5, 6, device=device)
    flow[0, 0, 1, :3] = torch.tensor([math.inf, -math.inf, math.nan])
    flow[0, 1, 1, 2] = 0.5  # with one axis NaN, this is without effect
    flow[0, 1, 3, 3] = 1e30
    flow[0, 1, 4, 0] = math.nan
    flow.requires_grad_()
    with backend("native" if native else "reference"):
        y = warp(x, flow, padding=padding)
        grads = torch.autograd.grad(y.sum(), (x, flow))
    edges = (x[..., 1, 5], x[..., 1, 0], x[..., 4, 3])
    for value, edge in zip((y[..., 1, 0], y[..., 1, 1], y[..., 3, 3]), edges, strict=True):
        assert torch.equal(value, edge if padding == "border" else 0 * edge)
    lost = torch.zeros(5, 6, dtype=torch.bool, device=device)
    lost[1, 2] = lost[4, 0] = True
    for result in (y, *grads):
        assert torch.equal(result.isnan(), lost.expand_as(result))


def test_a_gradient_that_is_not_finite_reaches_the_pixels_that_were_read(device):
    x = images(1, 20, 5, 9, dtype=torch.float32, device=device).requires_grad_()
    flow = torch.zeros(1, 2, 5, 9, device=device)
    flow[0, 0, 2, 3] = 1.5
    grad = torch.ones_like(x)
    grad[0, 7, 2, 3] = math.inf
    grad[0, 8, 0, 0] = math.nan
    (x_grad,) = torch.autograd.grad(warp(x, flow), x, grad)
    expected = torch.zeros_like(x, dtype=torch.bool)
    expected[0, 7, 2, 4:6] = expected[0, 8, 0, 0] = True
    assert torch.equal(~x_grad.isfinite(), expected)


def test_half_types_take_a_flow_in_float32(device):
    x = images(1, 2, 40, 300, dtype=torch.bfloat16, device=device).requires_grad_()
    flow = (5 * images(1, 2, 40, 300, dtype=torch.float32, device=device)).requires_grad_()
    y = warp(x, flow)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, warp(x.float(), flow).bfloat16(), rtol=0, atol=0)
    grads = torch.autograd.grad(y.float().sum(), (x, flow))
    assert [g.dtype for g in grads] == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (2, 3, 0, 4, 5)], ids=str
)
def test_empty_images(shape, device):
    x = torch.zeros(shape, device=device, requires_grad=True)
    flow = x.new_zeros(shape[0], len(shape) - 2, *shape[2:]).requires_grad_()
    for name in ("native", "reference"):
        with backend(name):
            y = warp(x, flow)
        assert y.shape == x.shape
        grads = torch.autograd.grad(y.sum(), (x, flow))
        assert not any(g.any() for g in grads)


@pytest.mark.parametrize(("images", "fields"), [(0, 3), (2, 0)])
def test_no_fields(images, fields, device):
    x = torch.zeros(images, 3, 4, 5, device=device, requires_grad=True)
    flow = x.new_zeros(images, fields, 2, 4, 5).requires_grad_()
    for name in ("native", "reference"):
        with backend(name):
            y = warp(x, flow)
        assert y.shape == (images, fields, 3, 4, 5)
        grads = torch.autograd.grad(y.sum(), (x, flow))
        assert not any(g.any() for g in grads)


X, FLOW = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x has shape \[3, 4, 5\], expected \[N, C, H, W\] or \[N, C, D"),
        (
            {"flow": FLOW[:1]},
            ValueError,
            r"warp: flow has shape \[1, 2, 4, 5\], expected \[2, 2, 4, 5\] or, for K fields an "
            r"image, \[2, K, 2, 4, 5\], for x of shape \[2, 3, 4, 5\]",
        ),
        ({"flow": X}, ValueError, r"warp: flow has shape \[2, 3, 4, 5\], expected \[2, 2, 4, 5\]"),
        ({"x": X[:, :, None]}, ValueError, r"warp: flow .* expected \[2, 3, 1, 4, 5\]"),
        ({"flow": FLOW[:1, None]}, ValueError, r"warp: flow has shape \[1, 1, 2, 4, 5\]"),
        ({"flow": torch.zeros(4, 2, 4, 5)}, ValueError, r"warp: flow has shape \[4, 2, 4, 5\]"),
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
    fields = [("dtype", ctypes.c_int), ("border", ctypes.c_bool), ("rank", ctypes.c_int)]
    fields += [(name, ctypes.c_int64) for name in ("images", "flows", "channels")]
    fields += [("sizes", 3 * ctypes.c_int64)]
    fields += [(name, ctypes.c_void_p) for name in ("x", "flow", *pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "warp": _structure("out"),
    "warp_backward": _structure("grad_out", "x_grad", "flow_grad", "largest", "sums", "marks"),
}
on_the_host = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def run(gpu: Device, name: str, x, padding: str, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    sizes = [*reversed(x.shape[2:]), 1][:3]
    arguments = STRUCTURES[name](
        dtype=DTYPES[x.dtype], border=padding == "border", rank=x.dim() - 2, images=x.shape[0],
        flows=read["flow"].shape[0] // x.shape[0], channels=x.shape[1],
        sizes=(3 * ctypes.c_int64)(*sizes), **places,
    )  # fmt: skip
    # Integers are changed in place.
    tensors = [*read.values(), *(t for t in written.values() if not t.is_floating_point())]
    error = gpu.call(name, ctypes.byref(arguments), read=tensors, written=list(written.values()))
    assert error is None, error


def run_x_backward(gpu: Device, x, padding: str, flow, grad):
    """The gradient with respect to x."""
    x_grad, (n, c), words = torch.full_like(x, math.nan), x.shape[:2], (x[0, 0].numel() + 31) // 32
    workspace = {
        "largest": torch.full((n, c), math.nan, dtype=torch.float64),
        "sums": torch.zeros(x.shape, dtype=torch.int64),
        "marks": torch.zeros(n, c, words, dtype=torch.int32),
    }
    operands = {"flow": flow, "grad_out": grad}
    run(gpu, "warp_backward", x, padding, operands, {"x_grad": x_grad, **workspace})
    return x_grad


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 11, 5, 9), (1, 9, 3, 4, 5)], ids=("image", "volume"))
class TestCudaKernels:
    pytestmark = on_the_host

    @staticmethod
    def operands(shape, dtype):
        """Two fields an image; some samples are far outside, some pixels are read by many, and a
        displacement is NaN."""
        x = shifted(images(*shape, dtype=dtype), 1)
        flow = 4 * images(2 * shape[0], len(shape) - 2, *shape[2:], dtype=accumulation(dtype))
        flow[0, :, 0] = -100.0
        flow[1, 0, 1, 2] = math.nan
        return x, flow

    def test_forward(self, shape, padding, dtype, gpu):
        x, flow = self.operands(shape, dtype)
        expected = _ops.warp(x, flow, padding == "border")
        out = torch.full_like(expected, math.inf)
        run(gpu, "warp", x, padding, {"x": x, "flow": flow}, {"out": out})
        torch.testing.assert_close(out, expected, equal_nan=True, **TOLERANCE[dtype])

    def test_backward(self, shape, padding, dtype, gpu):
        x, flow = self.operands(shape, dtype)
        grad = images(len(flow), *shape[1:], dtype=dtype).flip(0).contiguous()
        flow_grad = torch.full_like(flow, math.inf)
        operands = {"x": x, "flow": flow, "grad_out": grad}
        run(gpu, "warp_backward", x, padding, operands, {"flow_grad": flow_grad})
        x_grads = []
        for seed in (1, 2):  # the order in which threads run
            gpu.seed(seed)
            x_grads.append(run_x_backward(gpu, x, padding, flow, grad))
        bits = BITS[x.element_size()]
        assert torch.equal(*(g.view(bits) for g in x_grads))
        expected = _ops.warp_backward(grad, x, flow, padding == "border", True, True)
        same = {"equal_nan": True}
        torch.testing.assert_close(x_grads[0], expected[0], **same, **TOLERANCE[dtype])
        torch.testing.assert_close(flow_grad, expected[1], **same, **TOLERANCE[accumulation(dtype)])


class TestCudaScale:
    pytestmark = on_the_host

    @pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
    def test_integers_have_room_for_any_gradient(self, scale, gpu):
        x = images(1, 1, 3, 4)
        flow = torch.full((2, 2, 3, 4), -10.0, dtype=torch.float64)  # all samples are in a corner
        grad = images(2, 1, 3, 4) * scale
        x_grad = run_x_backward(gpu, x, "border", flow, grad)
        assert not x_grad.flatten()[1:].any()
        torch.testing.assert_close(x_grad[0, 0, 0, 0], grad.sum(), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    @pytest.mark.parametrize("others", [0.0, 1.0])
    def test_gradients_that_are_not_finite_reach_what_was_read(self, others, value, gpu):
        x = images(1, 2, 5, 9)
        flow = torch.zeros(1, 2, 5, 9, dtype=torch.float64)
        flow[0, 0, 2, 3] = 1.5
        grad = torch.full_like(x, others)
        grad[0, 1, 2, 3] = value
        x_grad = run_x_backward(gpu, x, "zeros", flow, grad)
        (expected, _) = _ops.warp_backward(grad, x, flow, False, True, False)
        assert torch.equal(x_grad.isnan(), ~expected.isfinite())
        finite = expected.isfinite()
        torch.testing.assert_close(x_grad[finite], expected[finite], rtol=1e-12, atol=1e-15)
