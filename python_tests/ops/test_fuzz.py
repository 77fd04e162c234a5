"""Every operator over shapes, strides, dtypes and values that nobody would write down.

Properties, not examples: a call equals the reference, whatever its layout and however it is split,
and touches nothing else. Run under AddressSanitizer and UBSan by ``.ci/sanitize``;
``GENCORE_FUZZ_EXAMPLES=5000`` searches further.
"""

import math

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from testing.strategies import (
    DTYPES,
    around,
    assert_untouched,
    build,
    fuzz,
    indices,
    int64s,
    keys,
    memories,
    shapes,
    steps,
)
from torch import Tensor

from gencore.ops import (
    backend,
    langevin_step,
    langevin_step_,
    philox_normal,
    philox_words,
    random_key,
    split_key,
)

LARGEST_NORMAL = 9.5  # of a float64 stream: sqrt(-2 ln 2^-64)


def accumulation(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def smallest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def magnitudes(arguments) -> dict:
    """A float64 step without clamp in which every term counts with its magnitude."""

    def magnitude(t: Tensor) -> Tensor:
        return t.detach().double().abs().nan_to_num(posinf=0.0)

    x, noise = arguments["x"], arguments.get("noise")
    return {
        **{name: arguments.get(name) for name in ("step_size", "noise_scale", "grad_clamp")},
        "x": magnitude(x),
        "grad": -magnitude(arguments["grad"]),
        "prior_precision": -abs(arguments.get("prior_precision", 0.0)),
        "noise": torch.full_like(magnitude(x), LARGEST_NORMAL)
        if noise is None
        else magnitude(noise),
    }


def agree(ours: Tensor, reference: Tensor, scale: Tensor, floor: Tensor) -> Tensor:
    """Where two results are equal to the rounding of terms as large as ``scale``.

    ``floor`` is what underflow may have cost. Terms near the largest number prove nothing: fused
    products overflow later.
    """
    dtype = ours.dtype
    wide, limits = accumulation(dtype), torch.finfo(dtype)
    a, b = ours.double(), reference.double()
    tolerance = 16 * torch.finfo(wide).eps * scale + floor + 2 * smallest(dtype)
    tolerance = tolerance + (limits.eps * b.abs() if dtype != wide else 0.0)
    almost_infinite = (1 - limits.eps) * limits.max - tolerance
    both_large = (a.abs() >= almost_infinite) & (b.abs() >= almost_infinite) & (a * b > 0)
    equal = (a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= tolerance) | both_large
    return equal | ~(scale < torch.finfo(wide).max / 4)


def scale_and_floor(arguments) -> tuple[Tensor, Tensor]:
    largest = magnitudes(arguments)
    least = torch.full_like(largest["x"], smallest(accumulation(arguments["x"].dtype)))
    with backend("reference"):
        scale = langevin_step(**largest)
        floor = langevin_step(**{**largest, "x": least, "grad": -least, "noise": least})
    return scale, floor


def assert_equal(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@fuzz(150)
@given(steps())
def test_step_equals_the_reference(device, case):
    arguments = build(case, device)
    x = arguments["x"]
    result = langevin_step(**arguments)
    with backend("reference"):
        reference = langevin_step(**arguments)
    assert_untouched(arguments, build(case, device))
    assert result.shape == x.shape
    assert result.dtype == reference.dtype == x.dtype
    assert result.stride() == torch.empty_like(x).stride()
    assert agree(result, reference, *scale_and_floor(arguments)).all()


@fuzz(150)
@given(st.one_of(steps(writable=True), steps(writable=True, plain=True)), st.booleans())
def test_in_place_equals_functional(device, case, grad_enabled):
    expected = langevin_step(**build(case, device))
    arguments, fresh = build(case, device), build(case, device)
    x = arguments.pop("x")
    with torch.set_grad_enabled(grad_enabled):
        assert langevin_step_(x, **arguments) is x
    assert_untouched(arguments, fresh)
    assert_equal(x, expected)
    assert torch.equal(around(x), around(fresh["x"]))


def gradients(arguments, weights: Tensor) -> list[Tensor]:
    names = [name for name in ("x", "grad", "noise") if arguments.get(name) is not None]
    leaves = {name: arguments[name].detach().requires_grad_() for name in names}
    result = langevin_step(**{**arguments, **leaves})
    return list(torch.autograd.grad(result, leaves.values(), weights))


@fuzz(200)
@given(steps(), st.data())
def test_gradients_equal_the_reference(device, case, data):
    arguments = build(case, device)
    x = arguments["x"]
    wide = accumulation(x.dtype)
    weights = data.draw(memories(tuple(x.shape), x.dtype)).tensor(device)
    ours = gradients(arguments, weights)
    assert_untouched(arguments, build(case, device))
    scale, floor = scale_and_floor(arguments)
    size = weights.double().abs().nan_to_num(posinf=0.0)
    with backend("reference"):
        references = gradients(arguments, weights)
        slopes = gradients({**magnitudes(arguments), "grad_clamp": None}, torch.ones_like(size))
        state = langevin_step(**{**arguments, "clamp": None}).double()
    slopes = [slope.abs() for slope in slopes]
    # A clamp cuts derivatives where the state leaves it; at its edge rounding decides.
    at_edge = torch.zeros_like(size, dtype=torch.bool)
    for term in (scale, *slopes, *(slope * size for slope in slopes)):  # beyond the largest number
        at_edge |= ~(term < torch.finfo(wide).max / 4)
    for bound in arguments.get("clamp") or ():
        if bound is not None and math.isfinite(bound):
            near = 16 * torch.finfo(x.dtype).eps * (scale + abs(bound)) + floor + 1e-30
            at_edge |= (state - bound).abs() <= near
    if (
        arguments.get("grad_clamp") is not None
    ):  # torch 2.14 puts the edge itself outside, 2.13 inside
        at_edge |= arguments["grad"].detach().abs() == arguments["grad_clamp"]
    prior = abs(arguments.get("prior_precision", 0.0))
    if prior == 0.0:  # the gradient passes as it is, where the reference adds 0 · ∞
        at_edge |= weights.isinf()
    for our, reference, slope in zip(ours, references, slopes, strict=False):
        assert our.dtype == x.dtype
        underflow = (slope + prior) * smallest(wide)
        assert (at_edge | agree(our, reference, slope * size, underflow)).all()


@fuzz(100)
@given(steps(), st.data())
def test_layout_and_split_do_not_change_the_result(device, case, data):
    result = langevin_step(**build(case, device))
    copies = build(case, device, copy=True)
    assert_equal(langevin_step(**copies), result.contiguous())
    x = copies["x"]
    assume(x.dim() > 0 and x.numel() > 0)
    cut = data.draw(st.integers(0, len(x)))
    first = case.get("first_element", 0)

    def part(rows: slice) -> Tensor:
        def rows_of(value):
            per_chain = isinstance(value, Tensor) and value.dim() > 0 and len(value) == len(x)
            return value[rows] if per_chain else value

        arguments = {
            name: value if name == "key" else rows_of(value) for name, value in copies.items()
        }
        start = first + (rows.start or 0) * (x.numel() // len(x))
        return langevin_step(**{**arguments, "first_element": start})

    assume(first + x.numel() <= 2**62)
    assert_equal(torch.cat([part(slice(0, cut)), part(slice(cut, None))]), result.contiguous())


@fuzz(60)
@given(
    st.integers(0, 140),
    st.lists(st.integers(0, 70), min_size=4, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@example(130, [1, 0, 0, 0], False, False, False)
def test_operands_may_share_the_memory_of_x(device, count, starts, with_noise, per_chain, grad):
    def arguments(copy: bool):
        room = torch.arange(1.0, 212.0, device=device)
        x, g, noise, steps = (room[start : start + count] for start in starts)
        operands = {"grad": g, "step_size": 0.5, "noise_scale": 0.0}
        if with_noise:
            operands.update(noise=noise, noise_scale=0.25)
        if per_chain:
            operands["step_size"] = steps
        if copy:
            operands = {n: v.clone() if isinstance(v, Tensor) else v for n, v in operands.items()}
        return x, operands

    x, operands = arguments(copy=True)
    expected = langevin_step(x, **operands)
    x, operands = arguments(copy=False)
    with torch.set_grad_enabled(grad):
        assert_equal(langevin_step_(x, **operands), expected)


@fuzz(80)
@given(steps(writable=True), st.booleans())
def test_all_forms_draw_alike_from_the_generator(device, case, grad_enabled):
    states, results = [], []
    for call, name in (
        (langevin_step, "native"), (langevin_step_, "native"), (langevin_step_, "reference")
    ):  # fmt: skip
        generator = torch.Generator(device).manual_seed(5)
        arguments = {**build(case, device), "key": None, "generator": generator}
        with torch.set_grad_enabled(grad_enabled), backend(name):
            results.append(call(**arguments))
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    assert_equal(results[0], results[1])


# Random numbers


@fuzz(120)
@given(shapes, keys(), indices, st.sampled_from(DTYPES), st.data())
def test_normals_equal_the_reference_and_any_part_the_whole(device, size, key, first, dtype, data):
    key = key.to(device)
    ours = philox_normal(size, key, first_element=first, dtype=dtype)
    with backend("reference"):
        reference = philox_normal(size, key, first_element=first, dtype=dtype)
    assert ours.shape == reference.shape == size
    assert ours.dtype == reference.dtype == dtype
    rounding = 0.0 if dtype == accumulation(dtype) else torch.finfo(dtype).eps
    absolute = 1e-13 if dtype == torch.float64 else 4e-6
    torch.testing.assert_close(ours, reference, rtol=rounding, atol=absolute)
    cut = data.draw(st.integers(0, ours.numel()))
    assume(first + cut <= 2**62)
    part = philox_normal((ours.numel() - cut,), key, first_element=first + cut, dtype=dtype)
    assert torch.equal(part, ours.flatten()[cut:])


@fuzz(60)
@given(shapes, keys(), indices)
def test_words_equal_the_reference(device, size, key, first):
    key = key.to(device)
    ours = philox_words(size, key, first_element=first)
    with backend("reference"):
        assert torch.equal(ours, philox_words(size, key, first_element=first))
    assert ours.shape == size
    assert ((ours >= 0) & (ours < 2**32)).all()


@fuzz(50)
@given(int64s, int64s, st.integers(0, 20))
def test_split_keys_count_up_and_wrap(device, seed, offset, num):
    split = split_key(torch.tensor([seed, offset], device=device), num)
    wrapped = [(offset + 2**63 + i) % 2**64 - 2**63 for i in range(num)]
    assert [key.tolist() for key in split] == [[seed, at] for at in wrapped]


@fuzz(50)
@given(st.integers(0, 2**64 - 1))
def test_keys_are_the_generators(device, seed):
    one, two = (random_key(torch.Generator(device).manual_seed(seed), device) for _ in range(2))
    assert torch.equal(one, two)
    assert one.dtype == torch.int64
    assert one.shape == (2,)
    assert (one >= 0).all()


# The half types' conversions, exhaustively


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_half_pattern_survives_a_load_and_a_store(device, dtype):
    every = torch.arange(-(2**15), 2**15, device=device).to(torch.int16).view(dtype)
    zero, finite = torch.zeros_like(every), every[every.isfinite()]
    assert_equal(langevin_step(finite, torch.zeros_like(finite), 0.0, 0.0), finite)
    assert_equal(langevin_step(zero, every, 1.0, 0.0), -every)
    assert_equal(langevin_step(zero, zero, 0.0, 1.0, noise=every), every)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_stores_round_as_torch_does(device, dtype):
    """At every number of the type, every midpoint of two, and the floats on both sides of each."""
    numbers = torch.arange(2**15, device=device).to(torch.int16).view(dtype)
    numbers = numbers[numbers.isfinite()].double()
    beyond = 2 * torch.finfo(dtype).max - numbers[-2:-1]  # where the next would be
    midpoints = (numbers + torch.cat([numbers[1:], beyond])) / 2
    patterns = torch.cat([numbers, midpoints]).float().view(torch.int32)
    patterns = torch.cat([patterns - 1, patterns, patterns + 1]).clamp(min=0)
    values = patterns.view(torch.float32)
    zero = torch.zeros_like(values, dtype=dtype)
    for sign in (1.0, -1.0):
        ours = langevin_step(zero, zero, 0.0, values, noise=torch.full_like(zero, sign))
        assert_equal(ours, (sign * values).to(dtype))
