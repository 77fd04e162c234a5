"""Rational-quadratic splines over shapes, strides, dtypes, numbers of bins and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding, and so do its gradients.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import (
    DTYPES,
    assert_agrees,
    assert_untouched,
    build,
    fuzz,
    memories,
    shapes,
)

from gencore.ops import rational_quadratic_spline

OPERANDS = ("x", "widths", "heights", "derivatives")


@st.composite
def splines(draw):
    """Valid arguments of ``rational_quadratic_spline``."""
    shape, dtype = draw(shapes.filter(len)), draw(st.sampled_from(DTYPES))
    bins = draw(st.sampled_from([1, 2, 3, 8, 17]))
    sizes = ((), (bins,), (bins,), (bins - 1,))
    smallest = st.sampled_from([0.0, 1e-3, 0.9 / bins])
    return {
        **{n: draw(memories(shape + s, dtype)) for n, s in zip(OPERANDS, sizes, strict=True)},
        "tail_bound": draw(st.sampled_from([1e-3, 1.0, 3.0, 30.0])),
        "inverse": draw(st.booleans()),
        "bound": draw(st.sampled_from([None, 1.0, 1e-3, 20.0, 100.0, 1e30])),
        "min_width": draw(smallest),
        "min_height": draw(smallest),
        "min_derivative": draw(st.sampled_from([0.0, 1e-3, 0.9])),
    }


def assert_equal(results, expected) -> None:
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a.contiguous(), b, rtol=0, atol=0, equal_nan=True)


def assert_near_reference(call, arguments) -> None:
    """Except where bins are so flat that the reference, in float64 for every dtype, fails first,
    and at 0, where bins of equal shares have a knot."""
    is_flat = any((arguments[name].abs() > 1e6).any() for name in OPERANDS[1:])
    if not is_flat and not (arguments["x"].abs() < 1e-6).any():
        assert_agrees(call, arguments, arguments["x"].dtype)


@fuzz(60)
@given(splines())
def test_a_spline_reads_what_it_is_given(device, case):
    arguments, copies = build(case, device), build(case, device, copy=True)
    results = rational_quadratic_spline(**arguments)
    assert_untouched(arguments, build(case, device))
    assert_equal(results, rational_quadratic_spline(**copies))
    assert_near_reference(lambda a: rational_quadratic_spline(**a), copies)


@fuzz(40)
@given(splines())
def test_its_gradients_read_what_they_are_given(device, case):
    def gradients(arguments):
        leaves = [arguments[name].detach().requires_grad_() for name in OPERANDS]
        results = rational_quadratic_spline(**arguments | dict(zip(OPERANDS, leaves, strict=True)))
        weights = [torch.ones_like(r, memory_format=torch.contiguous_format) for r in results]
        return torch.autograd.grad(results, leaves, weights)

    arguments, copies = build(case, device), build(case, device, copy=True)
    assert_equal(gradients(arguments), gradients(copies))
    assert_near_reference(gradients, copies)
