"""Small convolutional networks over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding, and its gradients too.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import assert_agrees, assert_untouched, bits, build, fuzz, memories

from gencore.ops import conv_network

# Around the vectors and blocks of channels of every CPU level.
CHANNELS = st.one_of(st.integers(1, 5), st.sampled_from([8, 15, 16, 17, 33, 48, 49]))
SIZES = st.one_of(st.integers(0, 5), st.sampled_from([7, 8, 9]))
IMAGES = st.tuples(st.integers(0, 5), SIZES, SIZES)
# Images of one pixel are worked on 64 at a time.
PIXELS = st.tuples(st.sampled_from([1, 63, 64, 65, 130]), st.just(1), st.just(1))


@pytest.fixture(autouse=True, scope="module")
def _two_threads():
    """With many threads and few images the operator is torch's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


@st.composite
def networks(draw):
    """Valid arguments: memories by name, and the rest."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    channels = draw(st.lists(CHANNELS, min_size=2, max_size=5))
    images, height, width = draw(st.one_of(IMAGES, PIXELS))
    arguments = {"x": draw(memories((images, channels[0], height, width), dtype))}
    for layer, (inputs, outputs) in enumerate(pairwise(channels)):
        side = draw(st.sampled_from([1, 3, 5, 7]))
        arguments[f"weight{layer}"] = draw(memories((outputs, inputs, side, side), dtype))
        arguments[f"bias{layer}"] = draw(memories((outputs,), dtype))
    arguments["grad"] = draw(memories((images, channels[-1], height, width), dtype))
    arguments["context_term"] = draw(st.one_of(st.none(), memories((images, channels[1]), dtype)))
    settings = {
        "activation": draw(st.sampled_from(["silu", "softplus", "tanh", "leaky_relu", "relu"])),
        "negative_slope": draw(st.sampled_from([0.01, 0.0, -1.0, 1e30])),
    }
    return arguments, settings


def call(tensors, settings):
    """The result, and the gradients of all tensors."""
    operands = {
        name: tensor.detach().requires_grad_()
        for name, tensor in tensors.items()
        if tensor is not None and name != "grad"
    }
    layers = sum(name.startswith("weight") for name in operands)
    y = conv_network(
        operands["x"],
        [operands[f"weight{k}"] for k in range(layers)],
        [operands[f"bias{k}"] for k in range(layers)],
        context_term=operands.get("context_term"),
        **settings,
    )
    return y, *torch.autograd.grad(y, list(operands.values()), tensors["grad"])


@fuzz(60)
@given(networks())
def test_memory_is_read_where_it_lies(case):
    arguments, settings = case
    tensors = build(arguments, "cpu")
    results = call(tensors, settings)
    assert results[0].is_contiguous()
    assert_untouched(tensors, build(arguments, "cpu"))
    copies = build(arguments, "cpu", copy=True)
    expected = call(copies, settings)
    for ours, other in zip(results, expected, strict=True):
        assert torch.equal(ours.isnan(), other.isnan())
        assert torch.equal(bits(ours.nan_to_num(0.0)), bits(other.nan_to_num(0.0)))
    if all(t.isfinite().all() for n, t in copies.items() if n.startswith("weight")):
        assert_agrees(lambda a: call(a, settings), copies, copies["x"].dtype)  # padding is skipped
