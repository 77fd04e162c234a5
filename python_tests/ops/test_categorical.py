"""categorical_log_prob: the shared operator tests, cross entropy, extremes, CUDA, errors."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler
from testing.op_tester import TOLERANCE, OpTester, expanded
from torch.nn import functional

from gencore.ops import backend, categorical_log_prob

LEVELS = 5


def pixels(shape):
    """[N, H, W] of the tester's shapes."""
    n, *rest = shape
    width = rest.pop() if rest else 1
    return n, math.prod(rest), width


class TestCategoricalLogProb(OpTester):
    """With zeros like the logits among the results: the tester expects one of their dtype first."""

    function = staticmethod(lambda logits, x: (0 * logits, categorical_log_prob(logits, x)))
    overload = torch.ops.gencore.categorical_log_prob.default
    differentiable = ("logits",)
    variants = {"": {}}  # noqa: RUF012
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        n, height, width = pixels(shape)
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn(n, 2 * LEVELS, height, width, generator=generator).to(dtype)
        x = torch.randint(0, LEVELS, (n, 2, height, width), generator=generator)
        return {"logits": logits.to(device), "x": x.to(device, torch.uint8)}

    def overload_arguments(self, variant, device):
        logits, x = self.tensors(variant, (2, 3, 4), torch.float64, device).values()
        return logits.requires_grad_(), x

    def test_backward_opcheck(self, variant, device):
        logits, x = self.overload_arguments(variant, device)
        _, normalizer = torch.ops.gencore.categorical_log_prob(logits, x)
        grad = torch.randn(2, 3, 4, dtype=torch.float64, device=device)
        grads = [t.requires_grad_() for t in (grad, torch.randn_like(normalizer))]
        overload = torch.ops.gencore.categorical_log_prob_backward.default
        torch.library.opcheck(overload, (*grads, logits, x, normalizer.detach()))

    # The tester expands matrices, and these have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        for ours, other in zip(self.call(variant, views), self.call(variant, copies), strict=True):
            assert torch.equal(ours, other)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_is_minus_the_cross_entropy(levels, kind, device):
    generator = torch.Generator().manual_seed(levels)
    logits = torch.randn(3, 2 * levels, 9, 31, generator=generator, dtype=torch.float64).to(device)
    x = torch.randint(0, levels, (3, 2, 9, 31), generator=generator).to(device)
    logits.requires_grad_()
    ours = categorical_log_prob(logits, x.to(kind))
    blocks = logits.view(6, levels, 9, 31)
    entropy = functional.cross_entropy(blocks, x.view(6, 9, 31), reduction="none")
    theirs = -entropy.view(3, 2, 9, 31).sum(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64).to(device)
    grads = [torch.autograd.grad(t, logits, weights)[0] for t in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


def test_two_levels_are_a_bernoulli_variable(device):
    logits = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(1)).to(device)
    x = torch.ones(2, 1, 3, 4, dtype=torch.uint8, device=device)
    expected = functional.logsigmoid(logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(categorical_log_prob(logits, x), expected)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_extreme_logits(name, device):
    """What is impossible, what is certain, and numbers that overflow on their own."""
    logits = torch.zeros(1, 33, 1, 4, device=device)
    logits[0, :32, 0, 0] = -math.inf
    logits[0, 5, 0, 1], logits[0, 0, 0, 2], logits[0, 20, 0, 3] = 1e30, -1e30, math.nan
    x = torch.tensor([[[[32, 5, 1, 3]]]], device=device)
    leaf = logits.requires_grad_()
    with backend(name):
        log_prob = categorical_log_prob(leaf, x)
        (grad,) = torch.autograd.grad(log_prob[..., :3].sum(), leaf)
    expected = torch.tensor([0.0, 0.0, -math.log(32)], device=device)
    torch.testing.assert_close(log_prob[0, 0, :3], expected)
    assert log_prob[0, 0, 3].isnan()
    assert grad[..., :3].isfinite().all()


def test_gradients_are_the_same_for_any_number_of_threads(device):
    logits = torch.randn(3, 32, 40, 50, generator=torch.Generator().manual_seed(1)).to(device)
    x = torch.randint(0, 16, (3, 2, 40, 50), generator=torch.Generator().manual_seed(2)).to(device)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaf = logits.clone().requires_grad_()
            results.append(torch.autograd.grad(categorical_log_prob(leaf, x).sum(), leaf)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(0, 4, 2, 3), (2, 4, 0, 3), (2, 4, 2, 0)], ids=str)
def test_empty_images(shape, device):
    logits = torch.zeros(shape, device=device, requires_grad=True)
    x = torch.zeros(shape[0], 1, *shape[2:], dtype=torch.uint8, device=device)
    for name in ("native", "reference"):
        with backend(name):
            log_prob = categorical_log_prob(logits, x)
        assert log_prob.shape == (shape[0], *shape[2:])
        (grad,) = torch.autograd.grad(log_prob.sum(), logits)
        assert grad.shape == logits.shape


LOGITS, X = torch.zeros(2, 12, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"logits": LOGITS[0]}, ValueError, r"logits has shape \[12, 4, 5\], expected \[N, P"),
        ({"logits": LOGITS.int()}, TypeError, "logits is torch.int32"),
        ({"logits": LOGITS[:, :10]}, ValueError, "logits has 10 channels; expected a multiple"),
        ({"logits": LOGITS[:, :0]}, ValueError, "logits has 0 channels; expected a multiple"),
        ({"x": X[:1]}, ValueError, r"x has shape \[1, 3, 4, 5\], expected \[2, C, 4, 5\]"),
        ({"x": X[:, :0]}, ValueError, "expected a multiple of the 0 channels of x"),
        ({"x": X.float()}, TypeError, "x is torch.float32, expected levels as uint8 or int64"),
        ({"x": None}, TypeError, "x must be a tensor, got NoneType"),
        ({"x": X.to("meta")}, ValueError, "x is on meta, logits on cpu"),
        ({"x": X + 4}, ValueError, "x has the level 4; expected 0 to 3"),
        ({"x": X.long() - 1}, ValueError, "x has the level -1; expected 0 to 3"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    for name in ("native", "reference"):
        with backend(name), pytest.raises(error, match=f"^categorical_log_prob: .*{message}"):
            categorical_log_prob(**{"logits": LOGITS, "x": X, **arguments})


# The CUDA kernels, executed on the host.


def _structure(*pointers):
    numbers = [(name, ctypes.c_int64) for name in ("images", "channels", "plane")]
    fields = [("dtype", ctypes.c_int), ("wide", ctypes.c_bool), *numbers, ("x", ctypes.c_void_p)]
    fields += [("levels", ctypes.c_int64), ("logits", ctypes.c_void_p)]
    fields += [(name, ctypes.c_void_p) for name in pointers]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "categorical": _structure("log_prob", "log_normalizer"),
    "categorical_backward": _structure("grad", "normalizer_grad", "log_normalizer", "logits_grad"),
}


def run(gpu: Device, name: str, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    logits, x = read["logits"], read["x"]
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    arguments = STRUCTURES[name](
        dtype=DTYPES[logits.dtype], wide=x.dtype == torch.int64, images=x.shape[0],
        channels=x.shape[1], plane=x.shape[2] * x.shape[3], levels=logits.shape[1] // x.shape[1],
        **places,
    )  # fmt: skip
    tensors = {"read": list(read.values()), "written": list(written.values())}
    error = gpu.call(name, ctypes.byref(arguments), **tensors)
    assert error is None, error


@pytest.mark.host_executor
@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda_kernels(dtype, gpu):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 2 * 19, 5, 15, generator=generator).to(dtype)
    x = torch.randint(0, 19, (2, 2, 5, 15), generator=generator)
    x = x if dtype == torch.float64 else x.to(torch.uint8)
    wide = accumulation(dtype)
    log_prob = torch.full((2, 5, 15), math.nan, dtype=wide)
    normalizer = torch.full((2, 2, 5, 15), math.nan, dtype=wide)
    run(gpu, "categorical", {"logits": logits, "x": x},
        {"log_prob": log_prob, "log_normalizer": normalizer})  # fmt: skip
    expected = torch.ops.gencore.categorical_log_prob(logits, x)
    for ours, theirs in zip((log_prob, normalizer), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[wide])
    grads = [torch.randn(t.shape, generator=generator, dtype=wide) for t in (log_prob, normalizer)]
    logits_grad = torch.full_like(logits, math.nan)
    read = {"logits": logits, "x": x, "grad": grads[0], "normalizer_grad": grads[1]}
    run(gpu, "categorical_backward", {**read, "log_normalizer": normalizer},
        {"logits_grad": logits_grad})  # fmt: skip
    theirs = torch.ops.gencore.categorical_log_prob_backward(*grads, logits, x, normalizer)
    torch.testing.assert_close(logits_grad, theirs, **TOLERANCE[dtype])
