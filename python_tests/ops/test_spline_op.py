"""The rational-quadratic spline: the shared operator tests, its accuracy and every bad input."""

import math

import pytest
import torch
from testing.op_tester import TOLERANCE, OpTester, outputs

from gencore.ops import backend, rational_quadratic_spline

BINS = 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def parameters(shape, bins, *, std=1.0, dtype=torch.float64, device="cpu", seed=1):
    """Raw widths, heights and derivatives for elements of that shape."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (std * torch.randn(*shape, size, generator=generator, dtype=torch.float64)).to(
            device, dtype
        )
        for size in (bins, bins, bins - 1)
    )


class TestRationalQuadraticSpline(OpTester):
    needs_chains = True
    function = staticmethod(rational_quadratic_spline)
    overload = torch.ops.gencore.rational_quadratic_spline.default
    differentiable = ("x", "widths", "heights", "derivatives")
    variants = {  # noqa: RUF012
        "forward": {"tail_bound": 2.0},
        "inverse": {"tail_bound": 2.0, "inverse": True},
        "no bound": {"tail_bound": 2.0, "bound": None},
    }

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
        operands = x, *parameters(shape, BINS, dtype=dtype, device=device)
        return dict(zip(self.differentiable, operands, strict=True))

    def leaves(self, variant, shape, device):
        return super().leaves(variant, (2, 2), device)  # each element has many parameters

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        more = self.variants[variant]
        bound = math.inf if "bound" in more else 1.0
        operands = (tensor.requires_grad_() for tensor in t.values())
        return *operands, 2.0, bound, 1e-3, 1e-3, 1e-3, more.get("inverse", False)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("shape", [(0,), (7, 33), (2, 20001)], ids=str)
    def test_gradients_match_the_reference(self, variant, shape, dtype, device):
        grads = []
        for name in ("native", "reference"):
            tensors = self.tensors(variant, shape, dtype, device)
            leaves = [t.requires_grad_() for t in tensors.values()]
            with backend(name):
                results = outputs(self.call(variant, tensors))
            weights = [
                torch.linspace(-1, 1, r.numel(), device=device, dtype=r.dtype).view(r.shape)
                for r in results
            ]
            grads.append(torch.autograd.grad(results, leaves, weights))
        for ours, reference in zip(*grads, strict=True):
            # Where bins are narrow the gradients magnify the roundings of float32 exponentials.
            largest = float(reference.abs().max()) if reference.numel() else 0.0
            tolerance = {"rtol": max(1e-4, TOLERANCE[dtype]["rtol"]), "atol": 2e-5 * (1 + largest)}
            torch.testing.assert_close(ours, reference, **tolerance)


def test_a_bin_worked_out_by_hand(device):
    """Two bins of equal width, the lower one of 3/4 of the height, with the slope 1 between them.

    At the middle of the first bin, s = 3/2 and both slopes are 1: y = −2 + 3 (s/4 + 1/4) / (s + (2
    − 2s)/4) and dy/dx = s²(1/4 + s/2 + 1/4) / (s + (2 − 2s)/4)².
    """
    x = torch.tensor([[-1.0]], dtype=torch.float64, device=device)
    zero = torch.zeros(1, 1, 2, dtype=torch.float64, device=device)
    heights = torch.tensor([[[math.log(3.0), 0.0]]], dtype=torch.float64, device=device)
    settings = {"tail_bound": 2.0, "bound": None, "min_height": 0.0}
    y, log_det = rational_quadratic_spline(x, zero, heights, zero[..., :1], **settings)
    assert y.item() == pytest.approx(-2 + 3 * (1.5 / 4 + 1 / 4) / (1.5 - 1 / 4))
    assert log_det.item() == pytest.approx(math.log(1.5**2 * (0.5 + 0.75) / 1.25**2))


def test_parameters_of_zero_make_the_identity(device):
    x = 4 * torch.randn(50, 7, device=device)
    for bins in (1, 2, 9):
        raw = torch.zeros(50, 7, bins, device=device)
        y, log_det = rational_quadratic_spline(x, raw, raw, raw[..., 1:])
        torch.testing.assert_close(y, x)
        assert log_det.abs().max() < 2e-6


def test_the_map_is_increasing_continuous_and_the_identity_outside(device):
    raw = parameters((1,), 6, std=3.0, device=device)
    x = torch.linspace(-4, 4, 80_001, dtype=torch.float64, device=device).unsqueeze(1)
    y, log_det = rational_quadratic_spline(
        x, *(p.expand(len(x), 1, -1) for p in raw), tail_bound=2.5
    )
    steps = y.diff(dim=0)
    assert (steps > 0).all()
    slopes = steps.squeeze(1) / (x[1] - x[0])
    # the mean slope over a step lies between those at its ends, but for the curvature
    ends = torch.stack([log_det[:-1], log_det[1:]]).exp()
    low, high = ends.amin(0), ends.amax(0)
    assert ((slopes > 0.99 * low) & (slopes < 1.01 * high)).all()
    outside = x.abs() > 2.5
    assert torch.equal(y[outside], x[outside])
    assert not log_det[outside.squeeze(1)].any()


@pytest.mark.parametrize("bound", [1.0, None])
@pytest.mark.parametrize("std", [1.0, 10.0])
def test_the_log_det_is_that_of_the_derivative(std, bound, device):
    for inverse in (False, True):
        raw = parameters((9, 4), 8, std=std, device=device)
        x = torch.empty(9, 4, dtype=torch.float64, device=device).uniform_(-3, 3).requires_grad_()
        y, log_det = rational_quadratic_spline(x, *raw, bound=bound, inverse=inverse)
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(slope.log().sum(1), log_det, rtol=1e-6, atol=1e-6)


def round_trip(std, bound, dtype, device):
    """x, |inverse(forward(x)) − x| and log(dy/dx) of 10⁵ random elements with K = 8."""
    raw = parameters((100_000, 1), 8, std=std, dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(7)
    x = (6 * torch.rand(100_000, 1, generator=generator, dtype=torch.float64) - 3).to(device, dtype)
    y, log_slope = rational_quadratic_spline(x, *raw, bound=bound)
    back, _ = rational_quadratic_spline(y, *raw, bound=bound, inverse=True)
    return x.squeeze(1), y.squeeze(1), (back - x).abs().squeeze(1), log_slope


@pytest.mark.parametrize("std", [1.0, 10.0, 1000.0])
def test_round_trips_of_float32_are_exact_to_1e_4(std, device):
    *_, error, log_slope = round_trip(std, 1.0, torch.float32, device)
    assert error.max() < 1e-4
    assert log_slope.exp().min() > 1.5e-3


@pytest.mark.parametrize("bound", [1.0, None])
def test_round_trips_lose_what_the_rounding_of_y_loses(bound, device):
    """What comes back is mapped to the same y, even where slopes of 1e-7 let x move by as much as
    2: no inverse of a float32 y does better."""
    raw = parameters((100_000, 1), 8, std=10.0, dtype=torch.float32, device=device)
    x = torch.empty(100_000, 1, device=device).uniform_(-3, 3)
    y, _ = rational_quadratic_spline(x, *raw, bound=bound)
    back, _ = rational_quadratic_spline(y, *raw, bound=bound, inverse=True)
    again, log_slope = rational_quadratic_spline(back, *raw, bound=bound)
    x_place, y_place = (torch.exp2(t.abs().log2().floor() - 23) for t in (back, y))
    limit = 1.01 * y_place + log_slope.exp().unsqueeze(1) * x_place
    assert ((again - y).abs() <= limit).all()


@pytest.mark.parametrize("std", [1.0, 10.0])
def test_round_trips_of_float64(std, device):
    *_, error, log_slope = round_trip(std, None, torch.float64, device)
    assert (error <= 1e-13 / log_slope.exp().clamp(max=1.0)).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_float32_equals_float64_where_the_map_is_well_conditioned(inverse, device):
    raw = parameters((1000, 3), 8, std=10.0, dtype=torch.float32, device=device)
    x = torch.empty(1000, 3, device=device).uniform_(-3, 3)
    y, log_det = rational_quadratic_spline(x, *raw, inverse=inverse)
    exact = rational_quadratic_spline(x.double(), *(p.double() for p in raw), inverse=inverse)
    torch.testing.assert_close(y.double(), exact[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det.double(), exact[1], rtol=0, atol=1e-4)


def test_the_unbounded_inverse_is_differentiable_twice(device):
    raw = tuple(p.requires_grad_() for p in parameters((3, 2), 4, device=device))
    x = torch.randn(3, 2, dtype=torch.float64, device=device, requires_grad=True)

    def function(*operands):
        return rational_quadratic_spline(*operands, bound=None, inverse=True)

    assert torch.autograd.gradcheck(function, (x, *raw))
    assert torch.autograd.gradgradcheck(function, (x, *raw))


def test_third_derivatives_are_those_of_the_reference(device):
    raw = parameters((2, 2), 4, device=device)
    x = torch.randn(2, 2, dtype=torch.float64, device=device, requires_grad=True)

    def third() -> torch.Tensor:
        y, log_det = rational_quadratic_spline(x, *raw)
        total = y.square().sum() + log_det.sum()
        for _ in range(3):
            (grad,) = torch.autograd.grad(total, x, create_graph=True)
            total = grad.sum()
        return grad.detach()

    ours = third()
    with backend("reference"):
        torch.testing.assert_close(ours, third())


def test_what_is_not_a_number_stays_so_and_nothing_else_does(device):
    x = torch.tensor([[math.nan, 0.5], [0.5, math.inf], [-math.inf, 0.1]], device=device)
    raw = [p.clone() for p in parameters((3, 2), 4, dtype=torch.float32, device=device)]
    y, log_det = rational_quadratic_spline(x, *raw)
    assert torch.equal(y.isnan(), x.isnan())
    assert y[1, 1] == math.inf
    assert y[2, 0] == -math.inf
    assert log_det.isfinite().all()
    raw[0][1, 0, 2] = math.nan
    y, log_det = rational_quadratic_spline(x, *raw)
    assert y[1, 0].isnan()
    assert log_det.isnan().tolist() == [False, True, False]


X, RAW = torch.zeros(3, 2), torch.zeros(3, 2, 4)
SLOPES = RAW[..., 1:]


@pytest.mark.parametrize(
    ("operands", "settings", "error", "message"),
    [
        ((torch.tensor(0.0), RAW, RAW, SLOPES), {}, ValueError, "x has no dimensions"),
        ((X.long(), RAW, RAW, SLOPES), {}, TypeError, "x is torch.int64"),
        ((X, RAW[0], RAW, SLOPES), {}, ValueError, r"widths has shape \[2, 4\]"),
        ((X, RAW[..., :0], RAW, SLOPES), {}, ValueError, r"widths has shape \[3, 2, 0\]"),
        ((X, RAW.double(), RAW, SLOPES), {}, TypeError, "widths is torch.float64"),
        ((X, RAW, SLOPES, SLOPES), {}, ValueError, r"heights has shape \[3, 2, 3\]"),
        ((X, RAW, RAW.half(), SLOPES), {}, TypeError, "heights is torch.float16"),
        ((X, RAW, RAW, RAW), {}, ValueError, "for each of the 3 inner knots"),
        ((X, RAW, RAW, SLOPES.double()), {}, TypeError, "derivatives is torch.float64"),
        ((X, RAW, RAW, SLOPES), {"tail_bound": 0.0}, ValueError, "tail_bound must be positive"),
        ((X, RAW, RAW, SLOPES), {"tail_bound": "a"}, TypeError, "tail_bound must be a number"),
        ((X, RAW, RAW, SLOPES), {"bound": -1.0}, ValueError, "bound must be positive"),
        ((X, RAW, RAW, SLOPES), {"min_width": 0.25}, ValueError, "expected less than 0.25"),
        ((X, RAW, RAW, SLOPES), {"min_height": 0.3}, ValueError, "min_height is 0.3"),
        ((X, RAW, RAW, SLOPES), {"min_derivative": 1.0}, ValueError, "expected less than 1"),
    ],
)
def test_bad_input_is_named(operands, settings, error, message):
    with pytest.raises(error, match=f"rational_quadratic_spline: .*{message}"):
        rational_quadratic_spline(*operands, **settings)


def test_too_many_bins_are_named():
    raw = torch.zeros(1, 1, 513)
    with pytest.raises(ValueError, match="splines have 513 bins; expected at most 512"):
        rational_quadratic_spline(torch.zeros(1, 1), raw, raw, raw[..., 1:])


@pytest.mark.parametrize("bins", [63, 64, 65, 512])
def test_many_bins_equal_the_reference(bins, device):
    raw = parameters((5, 3), bins, device=device)
    x = torch.randn(5, 3, dtype=torch.float64, device=device)
    settings = {"min_width": 1e-4, "min_height": 1e-4}
    ours = rational_quadratic_spline(x, *raw, **settings)
    with backend("reference"):
        expected = rational_quadratic_spline(x, *raw, **settings)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("inverse", [False, True])
def test_a_large_bound_is_as_good_as_none(inverse, dtype, device):
    """Raw values far below the bound b enter as they are, to r³ / 3b²."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator, dtype=torch.float64).to(device, dtype)
    raw = parameters((64, 4), 8, dtype=dtype, device=device)
    unbounded = rational_quadratic_spline(x, *raw, bound=None, inverse=inverse)
    for bound in (100.0, 1e3, 1e6, 1e30, 1e100):
        results = rational_quadratic_spline(x, *raw, bound=bound, inverse=inverse)
        for ours, expected in zip(results, unbounded, strict=True):
            accuracy = 1e-4 if dtype == torch.float32 else 1e-11
            tolerance = accuracy + 100 / bound**2
            torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_steep_logits_within_a_bound_keep_their_shares(device):
    """Two bins whose logits are 100 apart: the higher one takes all but the smallest width."""
    widths = torch.tensor([[[100.0, -100.0]]], device=device)
    x, flat = torch.tensor([[-2.0]], device=device), torch.zeros(1, 1, 2, device=device)
    for bound in (200.0, 1e4):
        settings = {"bound": bound, "min_width": 0.1, "min_height": 0.1, "min_derivative": 0.5}
        results = rational_quadratic_spline(x, widths, flat, flat[..., :1], **settings)
        with backend("reference"):
            expected = rational_quadratic_spline(x, widths, flat, flat[..., :1], **settings)
        torch.testing.assert_close(results, expected)


def test_a_slope_without_a_floor_keeps_its_digits(device):
    """At a knot the map's slope is softplus(r + log(e − 1)), here about e^(r + 0.54)."""
    x, flat = torch.zeros(1, 1, device=device), torch.zeros(1, 1, 2, device=device)
    for raw in (-5.0, -20.0):
        derivatives = torch.full((1, 1, 1), raw, device=device)
        _, log_det = rational_quadratic_spline(
            x, flat, flat, derivatives, bound=None, min_derivative=0.0
        )
        expected = math.log(math.log1p((math.e - 1) * math.exp(raw)))
        assert log_det.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_nothing_outside_the_interval_has_a_part_in_gradients(name, device):
    x = torch.tensor([[-9.0], [1.0], [9.0]], device=device)
    raw = [p.requires_grad_() for p in parameters((3, 1), BINS, dtype=x.dtype, device=device)]
    with torch.no_grad():
        for p in raw:
            p[0], p[2] = math.nan, math.inf
    with backend(name):
        y, log_det = rational_quadratic_spline(x, *raw)
        grads = torch.autograd.grad(y.sum() + log_det.sum(), raw)
    assert y[[0, 2]].equal(x[[0, 2]])
    assert log_det[[0, 2]].eq(0).all()
    for grad in grads:
        assert grad[1].isfinite().all()
        assert grad[[0, 2]].eq(0).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_parts_of_one_tensor_are_read_where_they_lie(inverse, device):
    """As a network gives them; and those that lie in no order of the elements."""
    x = torch.randn(6, 5, dtype=torch.float64, device=device)
    joint = torch.randn(6, 5, 11, dtype=torch.float64, device=device)
    parts = joint.split([4, 4, 3], 2)
    expected = rational_quadratic_spline(x, *(p.contiguous() for p in parts), inverse=inverse)
    weights = torch.cos(x), torch.sin(x[:, 0])
    results, grads = [], []
    for layout in (lambda p: p, lambda p: p.transpose(0, 1).contiguous().transpose(0, 1)):
        leaf = joint.clone().requires_grad_()
        operands = [layout(p) for p in leaf.split([4, 4, 3], 2)]
        results.append(rational_quadratic_spline(x, *operands, inverse=inverse))
        grads.append(torch.autograd.grad(results[-1], leaf, weights)[0])
    for found in results:
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert torch.equal(*grads)
    rows = parts[0][:, 2:3], parts[1][:, 2:3], parts[2][:, 2:3]  # one element a row
    alone = rational_quadratic_spline(x[:, 2:3], *rows, inverse=inverse)[0]
    assert torch.equal(alone, expected[0][:, 2:3])
