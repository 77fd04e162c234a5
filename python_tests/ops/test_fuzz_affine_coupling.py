"""Affine couplings and gated steps over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding.
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

from gencore.ops import affine_coupling, affine_coupling_backward_from_output, iaf_step

images = st.tuples(*(st.sampled_from([1, 2, 3, 4, 5, 8, 0]) for _ in range(4)))


@st.composite
def couplings(draw, *, gradients=False):
    """Valid arguments of ``affine_coupling``, or of the backward pass from its output."""
    mask = draw(st.sampled_from([None, "channel", "checkerboard"]))
    swap = draw(st.booleans())
    shape = draw(images if mask else shapes.filter(len))
    dtype = draw(st.sampled_from(DTYPES))
    part = list(shape)
    if mask == "channel":
        part[1] = shape[1] - shape[1] // 2 if swap else shape[1] // 2
    case = {"bound": draw(st.sampled_from([None, 0.5, 2.0, 80.0])), "mask": mask, "swap": swap}
    if len(shape) > 1 and draw(st.booleans()):
        case["shift"] = None
        part[1] *= 2
    else:
        case["shift"] = draw(memories(tuple(part), dtype))
    case["raw_scale"] = None
    if case["shift"] is None or draw(st.integers(0, 4)):
        case["raw_scale"] = draw(memories(tuple(part), dtype))
    for name in ("y", "grad_y") if gradients else ("x",):
        case[name] = draw(memories(shape, dtype))
    if gradients:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        case["grad_log_det"] = draw(memories(shape[:1], wide))
    else:
        case["inverse"] = draw(st.booleans())
    return case


def assert_equal(results, expected) -> None:
    for a, b in zip(results, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(
                a.contiguous(), b.contiguous(), rtol=0, atol=0, equal_nan=True
            )


@fuzz(80)
@given(couplings())
def test_a_coupling_reads_what_it_is_given(device, case):
    arguments = build(case, device)
    results = affine_coupling(**arguments)
    assert_untouched(arguments, build(case, device))
    copies = build(case, device, copy=True)
    assert_equal(results, affine_coupling(**copies))
    assert_agrees(lambda a: affine_coupling(**a), copies, copies["x"].dtype)


@fuzz(50)
@given(couplings(), st.booleans())
def test_its_gradients_do_too(device, case, second):
    def gradients(arguments):
        tensors = {n: t for n, t in arguments.items() if isinstance(t, torch.Tensor)}
        leaves = [t.detach().requires_grad_() for t in tensors.values()]
        y, log_det = affine_coupling(**arguments | dict(zip(tensors, leaves, strict=True)))
        heads = (y, log_det) if log_det.requires_grad else (y,)
        ones = [torch.ones_like(head) for head in heads]
        grads = torch.autograd.grad(heads, leaves, ones, create_graph=second, allow_unused=True)
        if second:
            present = [g for g in grads if g is not None and g.requires_grad]
            if present:
                ones = [torch.ones_like(g) for g in present]
                grads += torch.autograd.grad(present, leaves, ones, allow_unused=True)
        return [None if g is None else g.detach() for g in grads]

    arguments = build(case, device)
    results = gradients(arguments)
    assert_untouched(arguments, build(case, device))
    copies = build(case, device, copy=True)
    assert_equal(results, gradients(copies))
    assert_agrees(gradients, copies, copies["x"].dtype)


@fuzz(50)
@given(couplings(gradients=True))
def test_a_backward_pass_from_the_output_does_too(device, case):
    arguments = build(case, device)
    results = affine_coupling_backward_from_output(**arguments)
    assert_untouched(arguments, build(case, device))
    copies = build(case, device, copy=True)
    assert_equal(results, affine_coupling_backward_from_output(**copies))
    rewind = affine_coupling_backward_from_output
    assert_agrees(lambda a: rewind(**a), copies, copies["y"].dtype)


@fuzz(40)
@given(st.data(), shapes.filter(len), st.sampled_from(DTYPES), st.booleans())
def test_a_gated_step_does_too(device, data, shape, dtype, inverse):
    case = {name: data.draw(memories(shape, dtype)) for name in "zms"}
    arguments = build(case, device)
    results = iaf_step(**arguments, inverse=inverse)
    assert_untouched(arguments, build(case, device))
    copies = build(case, device, copy=True)
    assert_equal(results, iaf_step(**copies, inverse=inverse))
    assert_agrees(lambda a: iaf_step(**a, inverse=inverse), copies, dtype)
