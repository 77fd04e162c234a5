"""Causal convolutions over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding, and its gradients too.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import assert_agrees, assert_untouched, bits, build, fuzz, memories

from gencore.ops import masked_conv2d

# Around the vectors, and the squares that a map is turned round by, of every CPU level.
CHANNELS = st.one_of(st.integers(1, 5), st.sampled_from([7, 8, 9, 15, 16, 17, 33, 49]))
SIZES = st.one_of(st.integers(0, 5), st.sampled_from([7, 8, 9, 17]))
IMAGES = st.tuples(st.integers(0, 5), SIZES, SIZES)
# Images of one pixel are worked on 64 at a time, and large ones in bands.
OTHERS = st.sampled_from([(1, 1, 1), (64, 1, 1), (130, 1, 1), (1, 70, 3), (2, 3, 90)])


@st.composite
def convolutions(draw):
    """Valid arguments: memories by name, and the rest."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(CHANNELS), groups * draw(CHANNELS)
    images, height, width = draw(st.one_of(IMAGES, OTHERS))
    side = draw(st.sampled_from([1, 3, 5, 7]))
    arguments = {
        "x": draw(memories((images, inputs, height, width), dtype)),
        "weight": draw(memories((outputs, inputs, side, side), dtype)),
        "bias": draw(st.one_of(st.none(), memories((outputs,), dtype))),
        "grad": draw(memories((images, outputs, height, width), dtype)),
    }
    settings = {
        "mask": draw(st.sampled_from("AB")),
        "channel_groups": groups,
        "dilation": draw(st.sampled_from([1, 2, 3])),
    }
    return arguments, settings


def call(tensors, settings):
    """The result, and the gradients of all tensors."""
    operands = {
        name: tensor.detach().requires_grad_()
        for name, tensor in tensors.items()
        if tensor is not None and name != "grad"
    }
    y = masked_conv2d(**operands, **settings)
    return y, *torch.autograd.grad(y, list(operands.values()), tensors["grad"])


@fuzz(60)
@given(convolutions())
def test_memory_is_read_where_it_lies(case):
    arguments, settings = case
    tensors = build(arguments, "cpu")
    results = call(tensors, settings)
    assert_untouched(tensors, build(arguments, "cpu"))
    copies = build(arguments, "cpu", copy=True)
    expected = call(copies, settings)
    for ours, other in zip(results, expected, strict=True):
        assert torch.equal(ours.isnan(), other.isnan())
        assert torch.equal(bits(ours.nan_to_num(0.0)), bits(other.nan_to_num(0.0)))
    # The reference multiplies by the zeros of dead taps, the kernel by those around the image.
    if all(t is None or t.isfinite().all() for t in copies.values()):
        assert_agrees(lambda a: call(a, settings), copies, copies["x"].dtype)
