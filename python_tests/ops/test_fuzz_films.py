"""Warping, phase pooling and losses of images over shapes, settings, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and, unless values are huge, the reference to rounding, and
its gradients too.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import assert_agrees, assert_untouched, bits, build, fuzz, memories

from gencore.ops import phase_pool, phase_unpool, prediction_losses, splat, warp

DTYPE = st.sampled_from([torch.float32, torch.float64])
# Around the vectors, and the squares that images are turned round by, of every CPU level.
CHANNELS = st.one_of(st.integers(0, 5), st.sampled_from([7, 8, 9, 15, 16, 17, 33]))
SIDES = st.one_of(st.integers(1, 5), st.sampled_from([7, 8, 9, 16, 17, 33, 65]))
STRIDES = st.one_of(st.integers(1, 6), st.sampled_from([2**30 - 1]))


def assert_memory_is_read_where_it_lies(call, case):
    arguments, settings = case
    tensors = build(arguments, "cpu")
    results = call(tensors, settings)
    assert_untouched(tensors, build(arguments, "cpu"))
    copies = build(arguments, "cpu", copy=True)
    expected = call(copies, settings)
    for ours, other in zip(results, expected, strict=True):
        assert torch.equal(ours.isnan(), other.isnan())
        assert torch.equal(bits(ours.nan_to_num(0.0)), bits(other.nan_to_num(0.0)))
    # Products of larger ones overflow in one order and not in another.
    if all((t.abs() < 1e18).all() for t in copies.values()):
        dtype = next(iter(copies.values())).dtype
        assert_agrees(lambda a: call(a, settings), copies, dtype)


def derived(function, tensors, grads):
    """The results of a function of tensors, and the gradients of all."""
    operands = [tensor.detach().requires_grad_() for tensor in tensors]
    results = function(*operands)
    results = results if isinstance(results, tuple) else (results,)
    return *results, *torch.autograd.grad(results, operands, grads)


@st.composite
def fields(draw):
    dtype, rank = draw(DTYPE), draw(st.sampled_from([2, 2, 3]))
    images, channels = draw(st.integers(0, 3)), draw(CHANNELS)
    sides = [draw(SIDES if rank == 2 else st.integers(1, 9)) for _ in range(rank)]
    flows = draw(st.sampled_from([[], [], [1], [3]]))
    arguments = {
        "x": draw(memories((images, channels, *sides), dtype)),
        "flow": draw(memories((images, *flows, rank, *sides), dtype)),
        "grad": draw(memories((images, *flows, channels, *sides), dtype)),
    }
    return arguments, {"padding": draw(st.sampled_from(["zeros", "border"]))}


@fuzz(60)
@given(fields())
def test_warp(case):
    def call(tensors, settings):
        # Displacements beyond the next pixels too.
        operands = [tensors["x"], 3 * tensors["flow"]]
        return derived(lambda x, flow: warp(x, flow, **settings), operands, [tensors["grad"]])

    assert_memory_is_read_where_it_lies(call, case)


@fuzz(40)
@given(fields().filter(lambda case: len(case[0]["flow"].shape) == 4))
def test_splat(case):
    def call(tensors, settings):
        operands = [tensors["x"], 3 * tensors["flow"]]
        return derived(splat, operands, [tensors["grad"]])

    assert_memory_is_read_where_it_lies(call, case)


@st.composite
def pools(draw):
    """Sizes of a map, settings of its pools, and their number along each axis."""
    sizes, kernel, strides, padding = [], [], [], [0]
    circular = draw(st.booleans())
    for axis in range(3):
        kernel.append(draw(st.integers(1, 5)))
        strides.append(draw(st.integers(1, 6) if axis == 0 and circular else STRIDES))
        if axis > 0:
            padding.append(draw(st.integers(0, kernel[-1] - 1)))
        least = max(1, kernel[-1] - 2 * padding[-1])
        sizes.append(least + draw(st.one_of(st.integers(0, 6), st.sampled_from([15, 33]))))
    if circular:
        sizes[0] = strides[0] * -(-sizes[0] // strides[0])
    if max(kernel) == 1:
        kernel[2], sizes[2] = 2, sizes[2] + 1
    counts = [
        (size + 2 * pad - of) // step + 1
        for size, pad, of, step in zip(sizes, padding, kernel, strides, strict=True)
    ]
    if circular:
        counts[0] = sizes[0] // strides[0]
    settings = {
        "kernel_size": kernel, "stride": strides, "padding": padding[1:], "circular": circular,
    }  # fmt: skip
    return sizes, settings, counts, sum(of > 1 for of in kernel)


@st.composite
def pooled(draw):
    dtype, images = draw(DTYPE), draw(st.integers(0, 2))
    sizes, settings, counts, dims = draw(pools())
    arguments = {
        "z": draw(memories((images, *sizes), dtype)),
        "magnitude": draw(memories((images, *counts), dtype)),
        "phase": draw(memories((images, counts[0], dims, *counts[1:]), dtype)),
    }
    return arguments, {**settings, "sizes": sizes, "mode": draw(st.sampled_from(["clamp", "drop"]))}


@fuzz(80)
@given(pooled())
def test_phase_pool(case):
    def call(tensors, settings):
        settings = {name: settings[name] for name in settings if name not in ("sizes", "mode")}
        z = tensors["z"]
        beta = torch.tensor(1.5, dtype=z.dtype)
        return derived(
            lambda z, beta: phase_pool(z, beta=beta, **settings),
            [z, beta], [tensors["magnitude"], tensors["phase"]],
        )  # fmt: skip

    assert_memory_is_read_where_it_lies(call, case)


@fuzz(80)
@given(pooled())
def test_phase_unpool(case):
    def call(tensors, settings):
        settings = {**settings, "output_size": settings["sizes"]}
        del settings["sizes"]
        return derived(
            lambda magnitude, phase: phase_unpool(magnitude, phase, **settings),
            [tensors["magnitude"], tensors["phase"]], [tensors["z"]],
        )  # fmt: skip

    assert_memory_is_read_where_it_lies(call, case)


@st.composite
def predictions(draw):
    shape = (draw(st.integers(0, 3)), draw(st.integers(0, 4)), draw(SIDES), draw(SIDES))
    dtype = draw(DTYPE)
    arguments = {name: draw(memories(shape, dtype)) for name in ("prediction", "target")}
    arguments |= {name: draw(memories(shape[:1], dtype)) for name in ("lp", "difference")}
    return arguments, {"p": draw(st.sampled_from([1, 2])), "alpha": draw(st.integers(1, 3))}


@fuzz(40)
@given(predictions())
def test_prediction_losses(case):
    def call(tensors, settings):
        return derived(
            lambda prediction, target: tuple(prediction_losses(prediction, target, **settings)),
            [tensors["prediction"], tensors["target"]], [tensors["lp"], tensors["difference"]],
        )  # fmt: skip

    assert_memory_is_read_where_it_lies(call, case)
