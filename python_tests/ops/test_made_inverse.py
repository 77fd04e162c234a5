"""The sequential inverse of an autoregressive layer, in one call."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from testing.op_tester import DTYPES, TOLERANCE, assert_equal, offset, strided, transposed
from torch import Tensor

from gencore.ops import backend, made_inverse, rational_quadratic_spline

ACTIVATIONS = ("silu", "softplus", "tanh", "leaky_relu", "relu")
# What the operator is told of splines where there are none: B, and the smallest of their numbers.
SPLINE_NUMBERS = (3.0, 1e-3, 1e-3, 1e-3)
# D and the hidden widths: tiny, odd, narrower and wider than D, of every depth.
NETWORKS = ((1, (1,)), (2, (3,)), (3, (7, 5)), (17, (6, 40)), (9, (30, 8, 33, 20)), (40, (90, 90)))


def ends(features: int, widths: tuple[int, ...]) -> Tensor:
    """Random numbers of units of each degree, none of some."""
    generator = torch.Generator().manual_seed(features + sum(widths))
    rows = [
        torch.randint(0, width + 1, (features,), generator=generator).sort().values
        for width in widths
    ]
    return torch.stack(rows)


def layer(
    features: int,
    widths: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    device: Any = "cpu",
    each: int = 2,
) -> dict[str, Any]:
    """A network of `each` outputs an input."""
    generator = torch.Generator().manual_seed(features)
    sizes = (features, *widths, each * features)
    weights = [
        0.7 * torch.randn(o, i, generator=generator, dtype=torch.float64) / i**0.5
        for i, o in pairwise(sizes)
    ]
    biases = [0.3 * torch.randn(o, generator=generator, dtype=torch.float64) for o in sizes[1:]]
    return {
        "weights": [w.to(device, dtype) for w in weights],
        "biases": [b.to(device, dtype) for b in biases],
        "unit_ends": ends(features, widths).to(device),
    }


def data(rows: int, size: int, dtype: torch.dtype = torch.float64, device: Any = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(rows + size)
    return torch.randn(rows, size, generator=generator, dtype=torch.float64).to(device, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("features", "widths"), NETWORKS, ids=str)
@pytest.mark.parametrize("step", ["exponential", "gate"])
def test_matches_the_reference(step, features, widths, dtype, device):
    arguments = layer(features, widths, dtype, device)
    for rows, activation in zip((0, 1, 5, 33, 150), ACTIVATIONS, strict=True):
        z = data(rows, features, dtype, device)
        term = data(rows, widths[0], dtype, device) if rows % 2 else None
        for bound in (1.5, None):
            results = []
            for name in ("native", "reference"):
                with backend(name):
                    results.append(
                        made_inverse(
                            z, **arguments, step=step, bound=bound, activation=activation,
                            negative_slope=0.3, context_term=term,
                        )
                    )  # fmt: skip
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            assert results[0][0].dtype == dtype
            assert results[0][1].dtype == wide
            # Errors of one coordinate enter all that follow.
            tolerance = {k: 8 * v for k, v in TOLERANCE[dtype].items()}
            torch.testing.assert_close(results[0][0], results[1][0], **tolerance)
            numbers = {k: 8 * v for k, v in TOLERANCE[wide].items()}
            torch.testing.assert_close(results[0][1], results[1][1], **numbers)


def by_hand(dtype: torch.dtype) -> dict[str, Any]:
    """m₂ = 3 tanh(x₁) and s₂ = 5 tanh(x₁); nothing else depends on anything."""
    return {
        "weights": [
            torch.tensor([[1.0, 9.0]], dtype=dtype),  # 9, 7 and 8 belong to masked weights
            torch.tensor([[7.0], [3.0], [8.0], [5.0]], dtype=dtype),
        ],
        "biases": [torch.zeros(1, dtype=dtype), torch.tensor([0.5, 0.0, 0.25, 0.0], dtype=dtype)],
        "unit_ends": torch.tensor([[0, 1]]),
        "activation": "tanh",
    }


@pytest.mark.parametrize("name", ["native", "reference"])
def test_values_worked_out_by_hand(name):
    z = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    s1 = 2 * math.tanh(0.25 / 2)
    x1 = 0.3 * math.exp(s1) + 0.5
    s2 = 2 * math.tanh(5 * math.tanh(x1) / 2)
    x2 = -0.2 * math.exp(s2) + 3 * math.tanh(x1)
    gate = [1 / (1 + math.exp(-s1))]
    y1 = (0.3 - (1 - gate[0]) * 0.5) / gate[0]
    gate.append(1 / (1 + math.exp(-2 * math.tanh(5 * math.tanh(y1) / 2))))
    y2 = (-0.2 - (1 - gate[1]) * 3 * math.tanh(y1)) / gate[1]
    with backend(name):
        x, log_det = made_inverse(z, **by_hand(torch.float64))
        y, gate_log_det = made_inverse(z, **by_hand(torch.float64), step="gate")
    close = {"rtol": 1e-14, "atol": 1e-14}
    torch.testing.assert_close(x, torch.tensor([[x1, x2]], dtype=torch.float64), **close)
    torch.testing.assert_close(log_det, torch.tensor([s1 + s2], dtype=torch.float64), **close)
    torch.testing.assert_close(y, torch.tensor([[y1, y2]], dtype=torch.float64), **close)
    log_sigma = torch.tensor([-sum(map(math.log, gate))], dtype=torch.float64)
    torch.testing.assert_close(gate_log_det, log_sigma, **close)


def test_masked_weights_are_not_read():
    features, widths = 9, (30, 20)
    arguments = layer(features, widths)
    # Degrees by their definition: a unit's is the number of entries of its row that it lies behind.
    degrees = [torch.arange(features) + 1]
    for row, width in zip(arguments["unit_ends"], widths, strict=True):
        degrees.append((torch.arange(width)[:, None] >= row[None, :]).sum(1))
    degrees.append(torch.arange(features).repeat(2))
    spoilt = [
        weight.where(after[:, None] >= before[None, :], math.nan)
        for weight, before, after in zip(arguments["weights"], degrees, degrees[1:], strict=False)
    ]
    z = data(20, features)
    expected = made_inverse(z, **arguments)
    assert_equal(made_inverse(z, **{**arguments, "weights": spoilt}), expected)
    weights = [w.clone() for w in arguments["weights"]]
    weights[-1][8, 0] += 1.0  # of the first unit to the last shift, which is not masked
    x = made_inverse(z, **{**arguments, "weights": weights})[0]
    assert torch.equal(x[:, :8], expected[0][:, :8])
    assert not torch.equal(x[:, 8], expected[0][:, 8])


def test_coordinates_depend_on_earlier_ones_only(device):
    arguments, z = layer(17, (40, 40), device=device), data(4, 17, device=device)
    whole = made_inverse(z, **arguments)[0]
    changed = z.clone()
    changed[:, 8] += 1.0
    other = made_inverse(changed, **arguments)[0]
    assert torch.equal(other[:, :8], whole[:, :8])
    assert bool((other[:, 8] != whole[:, 8]).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_rows_do_not_depend_on_the_batch_or_the_threads(dtype, device):
    arguments, z = layer(17, (40, 40), dtype, device), data(300, 17, dtype, device)
    term = data(300, 40, dtype, device)
    whole = made_inverse(z, **arguments, context_term=term)
    for size in (1, 7, 16, 17, 100):
        parts = [
            made_inverse(z[k : k + size], **arguments, context_term=term[k : k + size])
            for k in range(0, 300, size)
        ]
        assert_equal([torch.cat(p) for p in zip(*parts, strict=True)], whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert_equal(made_inverse(z, **arguments, context_term=term), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", [transposed, strided, offset], ids=lambda f: f.__name__)
def test_layout_does_not_change_the_result(layout, device):
    arguments = layer(9, (30, 20), torch.float32, device)
    z, term = data(20, 9, torch.float32, device), data(20, 30, torch.float32, device)
    laid_out = {
        "weights": [layout(t) for t in arguments["weights"]],
        "biases": [t if layout is transposed else layout(t) for t in arguments["biases"]],
        "unit_ends": layout(arguments["unit_ends"]),
        "context_term": layout(term),
    }
    expected = made_inverse(z, **arguments, context_term=term)
    assert_equal(made_inverse(layout(z), **laid_out), expected)


@pytest.mark.parametrize("step", ["exponential", "gate"])
def test_extreme_scales_stay_finite(step, device):
    """Raw scales of ±10⁴: the bound holds both kinds."""
    arguments = layer(9, (30, 20), torch.float32, device)
    arguments["weights"][-1] *= 1e4
    x, log_det = made_inverse(data(50, 9, torch.float32, device), **arguments, step=step)
    assert x.isfinite().all()
    assert log_det.isfinite().all()
    largest = 2.0 if step == "exponential" else math.log1p(math.exp(2.0))
    assert bool((log_det.abs() <= largest * 9 * (1 + 1e-6)).all())


def test_nan_stays_in_its_row(device):
    arguments, z = layer(9, (30, 20), torch.float32, device), data(40, 9, torch.float32, device)
    spoilt = z.clone()
    spoilt[7, 0] = math.nan
    x, log_det = made_inverse(spoilt, **arguments)
    expected, expected_log_det = made_inverse(z, **arguments)
    others = torch.arange(40, device=device) != 7
    assert_equal((x[others], log_det[others]), (expected[others], expected_log_det[others]))
    assert bool(x[7, 0].isnan())


def test_operands_are_not_changed_and_not_recorded(device):
    arguments, z = layer(5, (12,), device=device), data(6, 5, device=device)
    copies = [t.clone() for t in (z, *arguments["weights"], *arguments["biases"])]
    leaves = [t.requires_grad_() for t in (z, *arguments["weights"], *arguments["biases"])]
    assert not any(t.requires_grad for t in made_inverse(z, **arguments))
    with backend("reference"):
        assert not any(t.requires_grad for t in made_inverse(z, **arguments))
    assert_equal(leaves, copies)


def test_opcheck(device):
    arguments, z = layer(5, (12, 7), device=device), data(6, 5, device=device)
    operands = (z, arguments["weights"], arguments["biases"], arguments["unit_ends"])
    for term in (None, data(6, 12, device=device)):
        torch.library.opcheck(
            torch.ops.gencore.made_inverse.default,
            (*operands, term, 0, 0.0, 0, 2.0, *SPLINE_NUMBERS),
        )


def test_compiles_without_graph_breaks(device):
    arguments, z = layer(5, (12, 7), torch.float32, device), data(6, 5, torch.float32, device)

    def function(z: Tensor) -> Tensor:
        x, log_det = made_inverse(2 * z, **arguments)
        return x.sum(1) + log_det

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z), function(z))


def broken(**changes: Any) -> dict[str, Any]:
    return {"z": data(4, 3), **layer(3, (5, 4)), **changes}


NARROW = layer(3, (5, 4))
BAD = {
    "z is an integer": ({"z": torch.zeros(4, 3, dtype=torch.int64)}, TypeError, "z is torch.int64"),
    "z has three dimensions": ({"z": torch.zeros(4, 3, 1).double()}, ValueError, r"\[N, D\]"),
    "z has no columns": ({"z": torch.zeros(4, 0).double()}, ValueError, r"\[N, D\]"),
    "no hidden layer": (
        {"weights": NARROW["weights"][:1], "biases": NARROW["biases"][:1]}, ValueError, "2 to 5"),
    "a bias is missing": ({"biases": NARROW["biases"][:2]}, ValueError, "3 weights and 2 biases"),
    "a weight is a list": (
        {"weights": [[1.0], *NARROW["weights"][1:]]}, TypeError, "a weight must be a tensor"),
    "dtypes differ": (
        {"weights": [w.float() for w in NARROW["weights"]]}, ValueError, "z is torch.float64"),
    "a weight has the wrong width": (
        {"weights": [*NARROW["weights"][:1], torch.zeros(4, 6).double(), NARROW["weights"][2]]},
        ValueError, r"layer 1 .* expected \[H, 5\]"),
    "too few outputs": (
        {"weights": [*NARROW["weights"][:2], torch.zeros(5, 4).double()],
         "biases": [*NARROW["biases"][:2], torch.zeros(5).double()]},
        ValueError, r"expected \[6, 4\]"),
    "unit_ends is a list": ({"unit_ends": [[0, 1, 2]] * 2}, TypeError, "unit_ends"),
    "unit_ends is int32": (
        {"unit_ends": NARROW["unit_ends"].int()}, ValueError, "expected torch.int64"),
    "unit_ends has a row too few": (
        {"unit_ends": NARROW["unit_ends"][:1]}, ValueError, r"of shape \[2, 3\]"),
    "unit_ends descends": (
        {"unit_ends": torch.tensor([[0, 2, 1], [0, 1, 2]])}, ValueError, "must ascend"),
    "unit_ends is negative": (
        {"unit_ends": torch.tensor([[-1, 2, 3], [0, 1, 2]])}, ValueError, "must ascend"),
    "unit_ends is beyond the layer": (
        {"unit_ends": torch.tensor([[0, 2, 3], [0, 1, 5]])}, ValueError, r"width, \[5, 4\]"),
    "an unknown activation": ({"activation": "gelu"}, ValueError, "activation is 'gelu'"),
    "an unknown step": ({"step": "sigmoid"}, ValueError, "step is 'sigmoid'"),
    "outputs of no spline": (
        {**layer(3, (5, 4), each=3), "step": "spline"}, ValueError,
        r"shape \[9, 4\] .* expected \[\(3K - 1\) \* 3, 4\]"),
    "a negative tail bound": ({"tail_bound": -1.0}, ValueError, "tail_bound must be"),
    "bins that are too wide": (
        {**layer(3, (5, 4), each=8), "step": "spline", "min_width": 0.4}, ValueError,
        "min_width is 0.4; expected less than 0.333"),
    "too many bins": (
        {**layer(3, (5, 4), each=1541), "step": "spline"}, ValueError, "514 bins; expected at"),
    "a bound of zero": ({"bound": 0.0}, ValueError, "bound must be positive"),
    "a context term of another size": (
        {"context_term": torch.zeros(4, 4).double()}, ValueError, r"\[4, 5\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_arguments(case):
    changes, error, message = BAD[case]
    with pytest.raises(error, match=f"made_inverse: .*{message}"):
        made_inverse(**broken(**changes))


def test_unit_ends_out_of_bounds_do_not_leave_the_memory():
    """What Python cannot check on a GPU, the kernels take care of."""
    arguments, z = layer(5, (12, 7), torch.float32), data(6, 5, torch.float32)
    wild = torch.tensor([[-(2**62), 2**62, -3, 5, 2**40]] * 2)
    torch.ops.gencore.made_inverse(
        z, arguments["weights"], arguments["biases"], wild, None, 0, 0.0, 0, 2.0, *SPLINE_NUMBERS
    )


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("step", ["exponential", "gate"])
def test_a_large_bound_is_as_good_as_none(step, name, device):
    """Raw scales far below the bound b enter as they are, to s³ / 3b²."""
    z, arguments = data(50, 9, torch.float32, device), layer(9, (30, 8), torch.float32, device)
    with backend(name):
        unbounded = made_inverse(z, **arguments, step=step, bound=None)
        for bound in (1e3, 1e6, 1e30):
            results = made_inverse(z, **arguments, step=step, bound=bound)
            for ours, expected in zip(results, unbounded, strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_a_scale_without_a_bound_overflows_where_the_exponential_does(name, device):
    weights = [torch.zeros(1, 1, device=device), torch.zeros(2, 1, device=device)]
    ends = torch.tensor([[0]], device=device)
    for s in (-100.0, -87.5, 88.0, 88.5, 89.0):
        biases = [torch.zeros(1, device=device), torch.tensor([0.0, s], device=device)]
        with backend(name):
            x, _ = made_inverse(torch.ones(1, 1, device=device), weights, biases, ends, bound=None)
        torch.testing.assert_close(x.cpu(), torch.tensor([[s]]).exp(), rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_what_is_infinite_stays_behind_the_mask(name, device):
    """x₁ overflows, and the only hidden unit may not see it."""
    weights = [
        torch.tensor([[1.0, torch.nan, 1.0]], device=device),
        torch.tensor([[0.0], [0.0], [1.0], [0.0], [0.0], [0.0]], device=device),
    ]
    biases = [
        torch.zeros(1, device=device),
        torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0, 0.0], device=device),
    ]
    ends = torch.tensor([[0, 1, 1]], device=device)
    with backend(name):
        x, log_det = made_inverse(
            torch.ones(1, 3, device=device), weights, biases, ends, bound=None
        )
    assert x.tolist() == [[1.0, math.inf, 2.0]]
    assert log_det.tolist() == [100.0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("features", "widths", "bins"),
    [(1, (1,), 1), (3, (7, 5), 8), (17, (6, 40), 2), (4, (30, 8, 33, 20), 100), (2, (3,), 512)],
    ids=str,
)
def test_splines_match_the_reference(features, widths, bins, dtype, device):
    arguments = layer(features, widths, dtype, device, 3 * bins - 1)
    arguments["weights"][-1] *= 3.0
    for rows, activation in zip((0, 1, 5, 33, 150), ACTIVATIONS, strict=True):
        z = 1.5 * data(rows, features, dtype, device)  # a twentieth is outside the interval
        term = data(rows, widths[0], dtype, device) if rows % 2 else None
        for bound in (0.8, None):
            results = []
            for name in ("native", "reference"):
                with backend(name):
                    results.append(
                        made_inverse(
                            z, **arguments, step="spline", bound=bound, tail_bound=2.5,
                            min_width=1e-3, min_height=1.5e-3, min_derivative=2e-2,
                            activation=activation, negative_slope=0.3, context_term=term,
                        )
                    )  # fmt: skip
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            assert results[0][0].dtype == dtype
            assert results[0][1].dtype == wide
            tolerance = {k: 8 * v for k, v in TOLERANCE[dtype].items()}
            torch.testing.assert_close(results[0][0], results[1][0], **tolerance)
            # A flat bin magnifies the error of its end.
            numbers = {k: 30 * v for k, v in TOLERANCE[wide].items()}
            torch.testing.assert_close(results[0][1], results[1][1], **numbers)


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("bound", [1.0, None])
def test_splines_are_inverted_by_their_parameters(bound, name, device):
    """What is found is mapped to z by the splines of the network's outputs for it."""
    features, bins = 9, 6
    arguments = layer(features, (30, 20), torch.float64, device, 3 * bins - 1)
    arguments["unit_ends"] = torch.tensor(
        [[3 * d + 3 for d in range(9)], [2 * d for d in range(9)]], device=device
    )
    z = 2 * data(40, features, torch.float64, device)
    with backend(name):
        x, log_det = made_inverse(z, **arguments, step="spline", bound=bound, activation="tanh")
    hidden, (first, second, last) = x, arguments["weights"]
    degrees = [torch.arange(30) // 3, torch.arange(20) // 2 + 1]
    positions = torch.arange(features)
    for weight, bias, before, after in (
        (first, 0, positions + 1, degrees[0]), (second, 1, degrees[0], degrees[1])
    ):  # fmt: skip
        mask = (after[:, None] >= before[None, :]).to(device)
        hidden = torch.tanh(hidden @ (weight * mask).T + arguments["biases"][bias])
    mask = (positions[:, None] >= degrees[1][None, :]).repeat_interleave(3 * bins - 1, 0).to(device)
    raw = (hidden @ (last * mask).T + arguments["biases"][2]).view(40, features, 3 * bins - 1)
    back, expected = rational_quadratic_spline(
        x, *raw.split([bins, bins, bins - 1], 2), bound=bound
    )
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_det, -expected, rtol=1e-9, atol=1e-9)
    outside = z.abs() > 3
    assert torch.equal(x[outside], z[outside])


def test_a_spline_row_does_not_depend_on_the_batch_or_the_threads(device):
    arguments = layer(7, (40, 40), torch.float32, device, 3 * 20 - 1)
    z, term = data(150, 7, torch.float32, device), data(150, 40, torch.float32, device)
    whole = made_inverse(z, **arguments, step="spline", context_term=term)
    for size in (1, 7, 33):
        parts = [
            made_inverse(
                z[k : k + size], **arguments, step="spline", context_term=term[k : k + size]
            )
            for k in range(0, 150, size)
        ]
        assert_equal([torch.cat(p) for p in zip(*parts, strict=True)], whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert_equal(made_inverse(z, **arguments, step="spline", context_term=term), whole)
    finally:
        torch.set_num_threads(before)


def test_nan_stays_in_its_row_and_its_spline(device):
    arguments = layer(9, (30, 20), torch.float32, device, 23)
    arguments["unit_ends"] = torch.tensor([[3 * d for d in range(9)], [2 * d for d in range(9)]])
    arguments["unit_ends"] = arguments["unit_ends"].to(device)
    z = data(40, 9, torch.float32, device)
    spoilt = z.clone()
    spoilt[7, 4] = math.nan
    x, log_det = made_inverse(spoilt, **arguments, step="spline")
    expected, expected_log_det = made_inverse(z, **arguments, step="spline")
    others = torch.arange(40, device=device) != 7
    assert_equal((x[others], log_det[others]), (expected[others], expected_log_det[others]))
    assert torch.equal(x[7, :4], expected[7, :4])
    assert bool(x[7, 4:].isnan().all())


def test_opcheck_and_compilation_of_splines(device):
    arguments, z = layer(5, (12, 7), device=device, each=11), data(6, 5, device=device)
    torch.library.opcheck(
        torch.ops.gencore.made_inverse.default,
        (z, arguments["weights"], arguments["biases"], arguments["unit_ends"], None, 2, 0.0, 2, 1.0,
         *SPLINE_NUMBERS),
    )  # fmt: skip

    def function(z: Tensor, bound: float) -> Tensor:
        x, log_det = made_inverse(2 * z, **arguments, step="spline", tail_bound=bound)
        return x.sum(1) + log_det

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for bound in (2.0, 2.5):
        assert torch.equal(compiled(z, bound), function(z, bound))


def test_the_operator_refuses_outputs_that_do_not_fit():
    arguments, z = layer(3, (5, 4), each=3), data(4, 3)
    call = torch.ops.gencore.made_inverse.default
    operands = (z, arguments["weights"], arguments["biases"], arguments["unit_ends"], None)
    with pytest.raises(Exception, match="2 D outputs, or 3 K - 1 times D"):
        call(*operands, 0, 0.0, 0, 1.0, *SPLINE_NUMBERS)
    with pytest.raises(Exception, match="2 D outputs, or 3 K - 1 times D"):
        call(*operands, 0, 0.0, 2, 1.0, *SPLINE_NUMBERS)
    with pytest.raises(Exception, match="unknown step"):
        call(*operands, 0, 0.0, 3, 1.0, *SPLINE_NUMBERS)
