"""The discretised logistic and its mixture: shared operator tests, sums, limits, CUDA, errors."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler
from testing.op_tester import TOLERANCE, OpTester, expanded

from gencore.ops import backend, discretized_logistic_log_prob, logistic_mixture_log_prob

BACKENDS = ("native", "reference")
LEVELS = 16
# The settings of the schema: levels, components, weighted, coupled, bin size, first edge, minimum.
SETTINGS = {
    "mixture": (LEVELS, 2, True, True, 1, -0.5, -7.0),
    "single": (LEVELS, 1, False, False, 1, -0.5, -30.0),
    "quantised": (LEVELS, 1, False, False, 4, 0.0, -30.0),
}


def log_prob(parameters, x, log_scale=None, **numbers):
    function = (
        logistic_mixture_log_prob if "num_components" in numbers else discretized_logistic_log_prob
    )
    more = {} if log_scale is None else {"log_scale": log_scale}
    # With zeros like the parameters: the tester expects one of their dtype first.
    return 0 * parameters, function(parameters, x, levels=LEVELS, **more, **numbers)


class TestLogisticLogProb(OpTester):
    function = staticmethod(log_prob)
    overload = torch.ops.gencore.logistic_mixture_log_prob.default
    differentiable = ("parameters", "log_scale")
    variants = {"mixture": {"num_components": 2}, "single": {}, "quantised": {"bins": 4}}  # noqa: RUF012
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        n, *rest = shape
        width = rest.pop() if rest else 1
        if variant == "quantised":  # the sum over pixels is rounded, the reference's too
            width = min(width, 1000)
        size = (n, math.prod(rest), width)
        generator = torch.Generator().manual_seed(1)
        x = torch.randint(0, LEVELS, (n, 2, *size[1:]), generator=generator)
        number = {"mixture": 12, "single": 4, "quantised": 2}[variant]
        parameters = 0.4 * torch.randn(n, number, *size[1:], generator=generator)
        tensors = {"parameters": parameters.to(device, dtype), "x": x.to(device)}
        if variant == "quantised":
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            tensors["log_scale"] = torch.tensor([-1.0, 0.3], dtype=wide, device=device)
        return tensors

    def overload_arguments(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 4), torch.float64, device)
        parameters, log_scale = tensors["parameters"], tensors.get("log_scale")
        for leaf in (parameters, log_scale):
            if leaf is not None:
                leaf.requires_grad_()
        return parameters, log_scale, tensors["x"], *SETTINGS[variant]

    def test_backward_opcheck(self, variant, device):
        arguments = self.overload_arguments(variant, device)
        grad = torch.randn(2, 3, 4, dtype=torch.float64, device=device).requires_grad_()
        overload = torch.ops.gencore.logistic_mixture_log_prob_backward.default
        torch.library.opcheck(overload, (grad, *arguments))

    # The tester expands matrices, and these have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 3, 5), torch.float32, device)
        views = {name: expanded(t) if t.dim() == 4 else t for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        for ours, other in zip(self.call(variant, views), self.call(variant, copies), strict=True):
            assert torch.equal(ours, other)

    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (3, 90, 70), torch.float32, device)
        leaves = [t.requires_grad_() for n, t in tensors.items() if n in self.differentiable]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                loss = self.call(variant, tensors)[1].sum()
                results.append(torch.autograd.grad(loss, leaves))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def all_levels(levels, device):
    """One image of one row, a pixel a level."""
    return torch.arange(levels, device=device).view(1, 1, 1, levels)


def row_of(values, levels, device, dtype=torch.float32):
    """The same parameters at every pixel of `all_levels`."""
    values = torch.tensor(values, dtype=dtype, device=device)
    return values.view(1, -1, 1, 1).expand(1, len(values), 1, levels)


SCALES = [10.0**exponent for exponent in (-3, -2, -1, 0, 1, 2)]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("unit", [1.0, 2 / 255], ids=["of the range", "of a level"])
@pytest.mark.parametrize("bins", [None, 16], ids=["levels", "bins of 16"])
def test_probabilities_sum_to_one(bins, unit, name, device):
    size = 1 if bins is None else 256 // bins
    x = all_levels(256, device)
    for scale in SCALES:
        for mean in (-3.0, -1.0, -0.3337, 0.0, 0.00123, 0.5, 1.0, 1.7):
            parameters = row_of([mean, math.log(scale * unit)], 256, device)
            with backend(name):
                found = discretized_logistic_log_prob(parameters, x, bins=bins)
            total = found.exp().double()[..., ::size].sum().item()
            assert total == pytest.approx(1.0, abs=1e-6), (scale, mean)


@pytest.mark.parametrize("name", BACKENDS)
def test_probabilities_of_a_mixture_sum_to_one(name, device):
    x = all_levels(256, device)
    for scale in SCALES:
        log_scales = [math.log(scale), math.log(0.05), -9.0]
        parameters = row_of([0.1, 2.0, -0.7, -0.9, 0.3, 0.01, *log_scales], 256, device)
        with backend(name):
            found = logistic_mixture_log_prob(parameters, x, num_components=3)
        assert found.exp().double().sum().item() == pytest.approx(1.0, abs=1e-6), scale


def test_probabilities_of_coupled_channels_sum_to_one(device):
    grid = torch.cartesian_prod(*[torch.arange(5, device=device)] * 3)
    x = grid.T.reshape(1, 3, 1, 125)
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(2 * 10, generator=generator, dtype=torch.float64).tolist()
    parameters = row_of(values, 125, device, torch.float64)
    found = logistic_mixture_log_prob(parameters, x, levels=5, num_components=2)
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-13)


def test_bins_are_open_at_the_ends_and_differences_between(device):
    """Of 4 levels, with mean 1.2 and scale 0.9 in levels."""
    x, half = all_levels(4, device), 1.5
    parameters = row_of([1.2 / half - 1, math.log(0.9 / half)], 4, device, torch.float64)
    edges = (torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64, device=device) - 1.2) / 0.9
    below = torch.sigmoid(edges)
    expected = torch.stack([below[0], below[1] - below[0], below[2] - below[1], 1 - below[2]])
    found = discretized_logistic_log_prob(parameters, x, levels=4).exp().flatten()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


def test_a_coarse_bin_is_the_sum_of_its_fine_ones(device):
    x = all_levels(256, device)
    parameters = row_of([0.2], 256, device, torch.float64)
    log_scale = torch.tensor([-2.0], dtype=torch.float64, device=device)
    fine, coarse = (
        discretized_logistic_log_prob(parameters, x, log_scale=log_scale, bins=bins).exp().flatten()
        for bins in (256, 16)
    )
    sums = fine.view(16, 16).sum(1).repeat_interleave(16)
    torch.testing.assert_close(coarse, sums, rtol=1e-12, atol=1e-15)


def test_bins_of_one_level_are_the_centred_ones_half_a_level_lower(device):
    x = all_levels(256, device)
    centred = discretized_logistic_log_prob(row_of([0.2, -2], 256, device, torch.float64), x)
    log_scale = torch.tensor([-2.0], dtype=torch.float64, device=device)
    raised = row_of([0.2 + 1 / 255], 256, device, torch.float64)  # half a level, of the range
    bins = discretized_logistic_log_prob(raised, x, log_scale=log_scale, bins=256)
    torch.testing.assert_close(bins, centred, rtol=1e-10, atol=1e-12)


def test_one_component_is_a_single_logistic(device):
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (2, 3, 4, 5), generator=generator).to(device)
    single = torch.randn(2, 6, 4, 5, generator=generator, dtype=torch.float64).to(device)
    mixture = torch.cat([17 + 0 * single[:, :1], single], 1)
    torch.testing.assert_close(
        logistic_mixture_log_prob(mixture, x, num_components=1, coupled=False),
        discretized_logistic_log_prob(single, x),
        rtol=1e-13, atol=1e-13,
    )  # fmt: skip


def test_coupling_moves_the_mean_of_the_later_channel(device):
    """Of two channels: mean + tanh(k) times the first, scaled to [-1, 1]."""
    x = torch.tensor([60, 200], device=device).view(1, 2, 1, 1)
    k, scaled = 0.8, 2 * 60 / 255 - 1
    pair = row_of([0.3, 0.1, -0.2, -1.0, -2.0, k], 1, device, torch.float64)
    apart = row_of([0.1, -0.2 + math.tanh(k) * scaled, -1.0, -2.0], 1, device, torch.float64)
    torch.testing.assert_close(
        logistic_mixture_log_prob(pair, x, num_components=1),
        discretized_logistic_log_prob(apart, x),
        rtol=1e-13, atol=1e-13,
    )  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_far_from_the_mean(dtype, name, device):
    """At 1e4 scales the log-probability is minus that distance, from the nearer edge."""
    scale = 2e-3  # of the range
    for sign in (1, -1):
        mean = sign * 1e4 * scale
        parameters = row_of([mean, math.log(scale)], 3, device, dtype).clone().requires_grad_()
        x = torch.tensor([0, 100, 255], device=device).view(1, 1, 1, 3)
        with backend(name):
            found = discretized_logistic_log_prob(parameters, x)
            (grad,) = torch.autograd.grad(found.sum(), parameters)
        near = (x + 0.5 if sign > 0 else x - 0.5) * (2 / 255) - 1
        distance = (near - mean).abs() / scale
        inner = -distance[0, 0, 0, 1].item()
        assert found[0, 0, 1].item() == pytest.approx(inner, rel=1e-4)
        open_end = 2 if sign > 0 else 0
        assert found[0, 0, open_end].item() == 0
        assert grad.isfinite().all()
        # d(-distance)/d(mean) and /d(log-scale), in the inner bin
        assert grad[0, 0, 0, 1].item() == pytest.approx(-sign / scale, rel=1e-4)
        assert grad[0, 1, 0, 1].item() == pytest.approx(-inner, rel=1e-3)


@pytest.mark.parametrize("name", BACKENDS)
def test_extreme_scales(name, device):
    """A scale of nothing gives a one-hot; one of infinity, two halves; with finite gradients."""
    x = all_levels(256, device)
    for log_scale in (-1e30, -60.0, 60.0, 1e30):
        mean = 2 * 100.2 / 255 - 1
        parameters = row_of([mean, log_scale], 256, device).clone().requires_grad_()
        with backend(name):
            found = discretized_logistic_log_prob(parameters, x)
            (grad,) = torch.autograd.grad(found.sum(), parameters)
        assert grad.isfinite().all()
        probability = found.exp().flatten()
        expected = torch.zeros(256, device=device)
        if log_scale < 0:
            expected[100] = 1
        else:
            expected[0] = expected[255] = 0.5
        torch.testing.assert_close(probability, expected, rtol=1e-6, atol=1e-6)


def test_a_clamped_log_scale_has_no_gradient(device):
    values = [0.0, 0.0, 0.1, -7.5, -6.5]
    parameters = row_of(values, 1, device).clone().requires_grad_()
    x = torch.tensor([[[[127]]]], device=device)
    for name in BACKENDS:
        with backend(name):
            found = logistic_mixture_log_prob(parameters[:, [0, 2, 3]], x, num_components=1)
            (low,) = torch.autograd.grad(found.sum(), parameters)
            found = logistic_mixture_log_prob(parameters[:, [0, 2, 4]], x, num_components=1)
            (high,) = torch.autograd.grad(found.sum(), parameters)
        assert low[0, 3].item() == 0
        assert high[0, 4].item() != 0


def test_what_is_not_a_number_stays_so(device):
    x = torch.zeros(1, 1, 1, 3, dtype=torch.uint8, device=device)
    parameters = torch.zeros(1, 6, 1, 3, device=device)
    parameters[0, 0, 0, 0] = parameters[0, 2, 0, 1] = parameters[0, 5, 0, 2] = math.nan
    for name in BACKENDS:
        with backend(name):
            assert logistic_mixture_log_prob(parameters, x, num_components=2).isnan().all()


def test_an_impossible_component_counts_for_nothing(device):
    generator = torch.Generator().manual_seed(6)
    x = torch.randint(0, 256, (1, 1, 2, 3), generator=generator).to(device)
    one = torch.randn(1, 3, 2, 3, generator=generator).to(device)
    two = one.repeat_interleave(2, 1).clone()
    two[:, 1] = -math.inf
    two.requires_grad_()
    found = logistic_mixture_log_prob(two, x, num_components=2)
    torch.testing.assert_close(found, logistic_mixture_log_prob(one, x, num_components=1))
    (grad,) = torch.autograd.grad(found.sum(), two)
    assert not grad[:, 1::2].any()


@pytest.mark.parametrize("shape", [(0, 4, 2, 3), (2, 4, 0, 3), (2, 4, 2, 0)], ids=str)
def test_empty_images(shape, device):
    n, _, height, width = shape
    x = torch.zeros(n, 2, height, width, dtype=torch.uint8, device=device)
    log_scale = torch.zeros(2, device=device, requires_grad=True)
    parameters = torch.zeros(n, 2, height, width, device=device, requires_grad=True)
    for name in BACKENDS:
        with backend(name):
            found = discretized_logistic_log_prob(parameters, x, log_scale=log_scale)
        assert found.shape == (n, height, width)
        grads = torch.autograd.grad(found.sum(), (parameters, log_scale))
        assert not grads[1].any()


def test_half_types_are_computed_in_float32(device):
    generator = torch.Generator().manual_seed(7)
    x = torch.randint(0, 256, (2, 3, 8, 9), generator=generator).to(device)
    parameters = torch.randn(2, 40, 8, 9, generator=generator).to(device, torch.bfloat16)
    found = logistic_mixture_log_prob(parameters, x, num_components=4)
    expected = logistic_mixture_log_prob(parameters.float(), x, num_components=4)
    assert torch.equal(found, expected)


P, X = torch.zeros(2, 6, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"parameters": P[0]}, ValueError, r"parameters has shape \[6, 4, 5\], expected \[N, P"),
        ({"parameters": P.int()}, TypeError, "parameters is torch.int32"),
        ({"parameters": P[:, :5]}, ValueError, "parameters has 5 channels, expected 6 for x of 3"),
        ({"x": X.float()}, TypeError, "x is torch.float32"),
        ({"x": X[:, :0]}, ValueError, "x has no channels"),
        ({"x": X + 16, "levels": 16}, ValueError, "x has the level 16; expected 0 to 15"),
        ({"levels": 1}, ValueError, "levels is 1; expected 2 to 65536"),
        ({"levels": 4.0}, TypeError, "levels must be an integer, got float"),
        ({"bins": 3}, ValueError, "bins is 3; expected a divisor of levels, 256"),
        ({"min_log_scale": -31}, ValueError, "min_log_scale is -31.0; expected -30 to 30"),
        ({"log_scale": torch.zeros(3)}, ValueError, "parameters has 6 channels, expected 3"),
        ({"log_scale": torch.zeros(2)}, ValueError, r"log_scale has shape \[2\], expected one"),
        ({"log_scale": torch.zeros(3).double()}, TypeError, "log_scale is torch.float64, expected"),
        ({"log_scale": torch.zeros(3).to("meta")}, ValueError, "log_scale is on meta, parameters"),
        ({"log_scale": 0.0}, TypeError, "log_scale must be a tensor, got float"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"parameters": P, "x": X, **arguments}
    for name in BACKENDS:
        with (
            backend(name),
            pytest.raises(error, match=f"^discretized_logistic_log_prob: {message}"),
        ):
            discretized_logistic_log_prob(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_components": 0}, "num_components is 0; expected one or more"),
        ({"num_components": 2}, "parameters has 10 channels, expected 20 for x of 3"),
        ({"coupled": False}, "parameters has 10 channels, expected 7 for x of 3"),
    ],
)
def test_bad_input_of_a_mixture_is_named(arguments, message):
    given = {"num_components": 1, **arguments}
    with pytest.raises(ValueError, match=f"^logistic_mixture_log_prob: {message}"):
        logistic_mixture_log_prob(torch.zeros(2, 10, 4, 5), X, **given)


# The CUDA kernels, executed on the host.


def _structure(*pointers):
    numbers = [(name, ctypes.c_int64) for name in ("images", "channels", "plane")]
    fields = [("dtype", ctypes.c_int), ("wide", ctypes.c_bool), *numbers, ("x", ctypes.c_void_p)]
    fields += [(name, ctypes.c_int64) for name in ("levels", "components")]
    fields += [(name, ctypes.c_bool) for name in ("weighted", "coupled")]
    fields += [("bin_size", ctypes.c_int64)]
    fields += [(name, ctypes.c_double) for name in ("first_edge", "min_log_scale")]
    fields += [(name, ctypes.c_void_p) for name in ("parameters", "log_scale", *pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "logistic_mixture": _structure("log_prob"),
    "logistic_mixture_backward": _structure("grad", "parameters_grad", "log_scale_grad"),
}


def run(gpu: Device, name: str, settings: tuple, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    parameters, x = read["parameters"], read["x"]
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    levels, components, weighted, coupled, bin_size, first_edge, min_log_scale = settings
    arguments = STRUCTURES[name](
        dtype=DTYPES[parameters.dtype], wide=x.dtype == torch.int64, images=x.shape[0],
        channels=x.shape[1], plane=x.shape[2] * x.shape[3], levels=levels, components=components,
        weighted=weighted, coupled=coupled, bin_size=bin_size, first_edge=first_edge,
        min_log_scale=min_log_scale, **places,
    )  # fmt: skip
    tensors = {"read": list(read.values()), "written": list(written.values())}
    error = gpu.call(name, ctypes.byref(arguments), **tensors)
    assert error is None, error


@pytest.mark.host_executor
@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX")
@pytest.mark.parametrize("variant", list(SETTINGS))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda_kernels(dtype, variant, gpu):
    tensors = TestLogisticLogProb().tensors(variant, (2, 5, 15), dtype, torch.device("cpu"))
    parameters, x, log_scale = tensors["parameters"], tensors["x"], tensors.get("log_scale")
    settings, wide = SETTINGS[variant], accumulation(dtype)
    if dtype != torch.float64:
        tensors["x"] = x = x.to(torch.uint8)
    found = torch.full((2, 5, 15), math.nan, dtype=wide)
    run(gpu, "logistic_mixture", settings, tensors, {"log_prob": found})
    expected = torch.ops.gencore.logistic_mixture_log_prob(parameters, log_scale, x, *settings)
    torch.testing.assert_close(found, expected, **TOLERANCE[wide])
    grad = torch.linspace(-1, 1, found.numel(), dtype=wide).view(found.shape)
    grads = {"parameters_grad": torch.full_like(parameters, math.nan)}
    if log_scale is not None:
        grads["log_scale_grad"] = torch.full(x.shape, math.nan, dtype=wide)
    run(gpu, "logistic_mixture_backward", settings, {**tensors, "grad": grad}, grads)
    theirs = torch.ops.gencore.logistic_mixture_log_prob_backward(
        grad, parameters, log_scale, x, *settings
    )
    torch.testing.assert_close(grads["parameters_grad"], theirs[0], **TOLERANCE[dtype])
    if log_scale is not None:
        sums = grads["log_scale_grad"].sum((0, 2, 3))
        torch.testing.assert_close(sums, theirs[1], **TOLERANCE[wide])
