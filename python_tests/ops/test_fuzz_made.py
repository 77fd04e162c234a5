"""The inverse of a MADE layer over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding, and row by row.
"""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import (
    DTYPES,
    Memory,
    assert_agrees,
    assert_untouched,
    bits,
    build,
    fuzz,
    memories,
)

from gencore.ops import made_inverse

# Around a block of samples, and the registers of one.
ROWS = st.sampled_from([1, 0, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65, 100])
WIDTHS = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 33, 70]))


@st.composite
def layers(draw):
    """Valid arguments: memories by name, and the rest."""
    rows, features, dtype = draw(ROWS), draw(st.integers(1, 12)), draw(st.sampled_from(DTYPES))
    widths = draw(st.lists(WIDTHS, min_size=1, max_size=4))
    step, bins = draw(st.sampled_from(["exponential", "gate", "spline"])), draw(st.integers(1, 9))
    sizes = [features, *widths, (3 * bins - 1 if step == "spline" else 2) * features]
    arguments = {"z": draw(memories((rows, features), dtype))}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        arguments[f"weight{layer}"] = draw(memories((outputs, inputs), dtype))
        arguments[f"bias{layer}"] = draw(memories((outputs,), dtype))
    arguments["context_term"] = draw(st.one_of(st.none(), memories((rows, widths[0]), dtype)))
    ends = [
        sorted(draw(st.lists(st.integers(0, w), min_size=features, max_size=features)))
        for w in widths
    ]
    gap = draw(st.integers(1, 2))
    arguments["unit_ends"] = torch.tensor(ends).repeat_interleave(gap, 1)[:, ::gap]
    settings = {
        "step": step,
        "bound": draw(st.sampled_from([2.0, None, 1e-3, 100.0, 1e6, 1e30])),
        "activation": draw(st.sampled_from(["silu", "softplus", "tanh", "leaky_relu", "relu"])),
        "negative_slope": draw(st.sampled_from([0.01, 0.0, -1.0, 1e30])),
    }
    return arguments, settings


def call(tensors, settings):
    layers = sum(name.startswith("weight") for name in tensors)
    return made_inverse(
        tensors["z"],
        [tensors[f"weight{k}"] for k in range(layers)],
        [tensors[f"bias{k}"] for k in range(layers)],
        tensors["unit_ends"],
        context_term=tensors["context_term"],
        **settings,
    )


def assert_same(ours, expected):
    """Equal in every bit, except for which NaN it is."""
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(bits(a.nan_to_num(0.0)), bits(b.nan_to_num(0.0)))


@fuzz(80)
@given(layers())
def test_memory_is_read_where_it_lies(case):
    arguments, settings = case
    tensors = build(arguments, "cpu")
    result = call(tensors, settings)
    assert result[0].shape == tensors["z"].shape
    assert result[0].is_contiguous()
    assert_untouched(tensors, build(arguments, "cpu"))
    copies = build(arguments, "cpu", copy=True)
    assert_same(result, call(copies, settings))
    assert_agrees(lambda a: call(a, settings), copies, copies["z"].dtype)


@fuzz(40)
@given(layers(), st.data())
def test_a_row_is_computed_by_itself(case, data):
    arguments, settings = case
    tensors = build(arguments, "cpu")
    rows = tensors["z"].shape[0]
    if rows == 0:
        return
    first = data.draw(st.integers(0, rows - 1))
    part = slice(first, data.draw(st.integers(first + 1, rows)))
    names = [n for n in ("z", "context_term") if isinstance(arguments[n], Memory)]
    alone = call({**tensors, **{name: tensors[name][part] for name in names}}, settings)
    assert_same(alone, [t[part] for t in call(tensors, settings)])
