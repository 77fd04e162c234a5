"""prediction_losses: the shared operator tests, closed forms, CUDA kernels, errors."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler, shifted
from testing.op_tester import TOLERANCE, OpTester, expanded, outputs

from gencore.ops import backend, prediction_losses

EXPONENTS = {"1, 1": (1, 1), "2, 2": (2, 2), "1, 2": (1, 2), "2, 3": (2, 3), "1, 0": (1, 0)}


def losses(prediction, target, p, alpha):
    """With a tensor of the images' dtype first, as the tester expects."""
    return 0 * prediction, *prediction_losses(prediction, target, p=p, alpha=alpha)


class TestPredictionLosses(OpTester):
    function = staticmethod(losses)
    overload = torch.ops.gencore.prediction_losses.default
    differentiable = ("prediction", "target")
    variants = {name: {"p": p, "alpha": a} for name, (p, a) in EXPONENTS.items()}  # noqa: RUF012
    traced = ("1, 1", "2, 3")
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        shape = (*shape[:1], *(1,) * (4 - len(shape)), *shape[1:])
        generator = torch.Generator().manual_seed(1)
        x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        return {"prediction": x.to(device, dtype), "target": y.to(device, dtype)}

    def overload_arguments(self, variant, device):
        leaves = self.tensors(variant, (2, 3, 4, 5), torch.float64, device).values()
        return *(t.requires_grad_() for t in leaves), *EXPONENTS[variant]

    def test_backward_opcheck(self, variant, device):
        x, y, *exponents = self.overload_arguments(variant, device)
        grads = [torch.linspace(-1, 1, 2, dtype=x.dtype, device=device) for _ in range(2)]
        overload = torch.ops.gencore.prediction_losses_backward.default
        torch.library.opcheck(overload, (*(g.requires_grad_() for g in grads), x, y, *exponents))

    def test_derivatives_of_images(self, variant, device):
        function, leaves = self.leaves(variant, (2, 2, 4, 3), device)
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)

    # The tester expands matrices, and images have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 2, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        pairs = zip(self.call(variant, views), self.call(variant, copies), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def images(*shape, dtype=torch.float64, device="cpu", seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def difference(prediction, target, alpha=1):
    return prediction_losses(prediction, target, alpha=alpha).gradient_difference


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_the_gradient_difference_does_not_see_constants_and_signs(alpha, device):
    y = torch.randint(-8, 8, (3, 2, 7, 40), generator=torch.Generator().manual_seed(1)).double()
    y = y.to(device)
    for same in (y, y + 3, -y, 1 - y):
        assert not difference(same, y, alpha).any()
    assert (difference(2 * y, y, alpha) > 0).all()


@pytest.mark.parametrize(
    ("profile", "alpha", "expected"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], 1, 1),  # no edge
        ([0, 0, 0, 0, 0, 0, 0, 0], 2, 1),
        ([0, 0, 0, 0, 0, 3, 3, 3], 1, 2),  # a pixel on
        ([0, 0, 0, 0, 0, 3, 3, 3], 2, 2),
        ([0, 0, 0, 1, 2, 3, 3, 3], 1, 4 / 3),  # a ramp of three steps
        ([0, 0, 0, 1, 2, 3, 3, 3], 2, 2 / 3),
        ([0, 0, 0, 0, 6, 6, 6, 6], 1, 1),  # twice as strong
    ],
)
def test_a_step_edge_has_the_worked_out_loss(profile, alpha, expected, device):
    height = 16
    step = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1.0]).expand(1, 1, height, 8).double().to(device)
    other = torch.tensor(profile).double().expand(1, 1, height, 8).to(device) / 3
    for x, y in ((other, step), (step, other), (other.mT, step.mT)):
        loss = difference(x, y, alpha)
        torch.testing.assert_close(loss, loss.new_tensor([height * expected]), rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 1, 2500), (2, 1, 2500, 1), (1, 1, 3, 1500)])
@pytest.mark.parametrize(("p", "alpha"), EXPONENTS.values())
def test_transposition_changes_nothing(shape, p, alpha, device):
    """Rows longer and shorter than what the kernels do at once."""
    pair = [images(*shape, device=device, seed=seed) for seed in (1, 2)]
    turned = [t.mT.contiguous() for t in pair]
    results = []
    for x, y in (pair, turned):
        leaf = x.clone().requires_grad_()
        found = prediction_losses(leaf, y, p=p, alpha=alpha)
        results.append((*found, *torch.autograd.grad(found, leaf, [w + 1.0 for w in found])))
    (lp, gd, grad), (lp_t, gd_t, grad_t) = results
    torch.testing.assert_close((lp, gd, grad), (lp_t, gd_t, grad_t.mT), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [1, 2, 3, 4])
def test_the_loss_and_its_slope_at_one_difference(alpha, device):
    """d = −2 against 5: e = |5| − |−2| = 3, and the slope is α e^(α−1) towards a larger |d|."""
    y = torch.tensor([1.0, 6.0], dtype=torch.float64, device=device).view(1, 1, 1, 2)
    x = torch.tensor([4.0, 2.0], dtype=torch.float64, device=device).view(1, 1, 1, 2)
    x.requires_grad_()
    loss = difference(x, y, alpha)
    assert loss.item() == 3**alpha
    (grad,) = torch.autograd.grad(loss, x)
    slope = alpha * 3 ** (alpha - 1)
    assert grad.flatten().tolist() == [-slope, slope]


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_where_an_absolute_value_vanishes_the_slope_is_zero(alpha, device):
    flat = torch.full((1, 1, 4, 5), 2.0, device=device)
    edges = images(1, 1, 4, 5, dtype=torch.float32, device=device)
    for x, y in ((flat, edges), (edges, edges)):
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(difference(leaf, y, alpha), leaf)
        assert not grad.any()


def test_lp_is_a_sum_of_powers(device):
    x, y = (images(3, 2, 20, 70, device=device, seed=seed) for seed in (1, 2))
    for p in (1, 2):
        expected = torch.linalg.vector_norm((x - y).flatten(1), ord=p, dim=1) ** p
        torch.testing.assert_close(prediction_losses(x, y, p=p).lp, expected)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 1, 1)])
def test_images_without_a_difference(shape, device):
    x = torch.ones(shape, device=device, requires_grad=True)
    found = prediction_losses(x, torch.zeros_like(x))
    assert found.lp.tolist() == [float(x[0].numel())] * shape[0] if shape[0] else True
    assert not found.gradient_difference.any()
    (grad,) = torch.autograd.grad(sum(t.sum() for t in found), x)
    assert torch.equal(grad, torch.ones_like(x))


def test_half_types_are_summed_in_float32(device):
    x = torch.full((1, 1, 100, 100), 1.0, dtype=torch.float16, device=device)
    found = prediction_losses(x, 9 * x, p=2)  # 640000 is more than float16 has
    assert found.lp.dtype == torch.float32
    assert found.lp.item() == 640_000


def test_a_gradient_is_the_same_for_any_number_of_threads(device):
    x, y = (images(3, 5, 70, 90, dtype=torch.float32, device=device, seed=s) for s in (1, 2))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            results.append(torch.autograd.grad(sum(prediction_losses(leaf, y)).sum(), leaf)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


X = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prediction": X[0], "target": X[0]}, ValueError, r"prediction has shape \[3, 4, 5\]"),
        ({"target": X[:1]}, ValueError, r"target has shape \[1, 3, 4, 5\], prediction has"),
        ({"target": X.double()}, TypeError, "target is torch.float64, prediction is"),
        ({"target": None}, TypeError, "target must be a tensor, got NoneType"),
        ({"target": X.to("meta")}, ValueError, "target is on meta, prediction on cpu"),
        ({"prediction": X.int()}, TypeError, "prediction is torch.int32"),
        ({"p": 3}, ValueError, "p is 3, expected 1 or 2"),
        ({"p": 1.5}, TypeError, "p must be an integer, got float"),
        ({"alpha": -1}, ValueError, "alpha must not be negative, got -1"),
        ({"alpha": 2**31}, ValueError, "alpha is 2147483648, expected less than"),
        ({"alpha": 1.5}, TypeError, "alpha must be an integer, got float"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, error, message):
    for name in ("native", "reference"):
        with backend(name), pytest.raises(error, match=f"^prediction_losses: {message}"):
            prediction_losses(**{"prediction": X, "target": X, **arguments})


# The CUDA kernels, executed on the host.


def _structure(*fields):
    numbers = [("p", ctypes.c_int), ("alpha", ctypes.c_int)]
    numbers += [(name, ctypes.c_int64) for name in ("images", "channels", "height", "width")]
    pointers = [("x", ctypes.c_void_p), ("other", ctypes.c_void_p)]
    members = [("dtype", ctypes.c_int), *numbers, *pointers, *fields]
    return type("Arguments", (ctypes.Structure,), {"_fields_": members})


STRUCTURES = {
    "prediction_losses": _structure(
        ("lp", ctypes.c_void_p), ("gradient_difference", ctypes.c_void_p),
        ("pieces", ctypes.c_int64), ("sums", ctypes.c_void_p),
    ),
    "prediction_losses_backward": _structure(
        ("lp_grad", ctypes.c_void_p), ("gradient_difference_grad", ctypes.c_void_p),
        ("x_grad", ctypes.c_void_p),
    ),
}  # fmt: skip


def run(gpu: Device, name: str, shape, exponents, read: dict, written: dict, **more) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    numbers = dict(zip(("p", "alpha", "images", "channels", "height", "width"),
                       (*exponents, *shape), strict=True))  # fmt: skip
    dtype = DTYPES[read["x"].dtype]
    arguments = STRUCTURES[name](dtype=dtype, **numbers, **places, **more)
    error = gpu.call(
        name, ctypes.byref(arguments), read=list(read.values()), written=list(written.values())
    )
    assert error is None, error


@pytest.mark.host_executor
@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX")
@pytest.mark.parametrize("exponents", EXPONENTS.values(), ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestCudaKernels:
    SHAPE = (2, 3, 9, 13)

    def operands(self, dtype):
        x, y = (shifted(images(*self.SHAPE, dtype=dtype, seed=seed), 1) for seed in (1, 2))
        return {"x": x, "other": y}

    def test_forward(self, exponents, dtype, gpu):
        read, wide = self.operands(dtype), accumulation(dtype)
        written = {
            "lp": torch.full((2,), math.nan, dtype=wide),
            "gradient_difference": torch.full((2,), math.nan, dtype=wide),
            "sums": torch.full((2, 2, 3), math.nan, dtype=torch.float64),
        }
        run(gpu, "prediction_losses", self.SHAPE, exponents, read, written, pieces=3)
        expected = prediction_losses(*read.values(), p=exponents[0], alpha=exponents[1])
        found = (written["lp"], written["gradient_difference"])
        torch.testing.assert_close(found, outputs(expected), **TOLERANCE[wide])

    def test_backward(self, exponents, dtype, gpu):
        read, wide = self.operands(dtype), accumulation(dtype)
        grads = [torch.tensor(values, dtype=wide) for values in ([1.5, -2.0], [0.25, 3.0])]
        x_grad = torch.full(self.SHAPE, math.nan, dtype=dtype)
        names = ("lp_grad", "gradient_difference_grad")
        more = dict(zip(names, grads, strict=True))
        run(gpu, "prediction_losses_backward", self.SHAPE, exponents, {**read, **more},
            {"x_grad": x_grad})  # fmt: skip
        leaf = read["x"].clone().requires_grad_()
        found = prediction_losses(leaf, read["other"], p=exponents[0], alpha=exponents[1])
        (expected,) = torch.autograd.grad(found, leaf, grads)
        torch.testing.assert_close(x_grad, expected, **TOLERANCE[dtype])
