"""Hypothesis strategies for operators' arguments: shapes, places in memory, values, settings.

A strategy draws descriptions, not tensors: ``Memory.tensor()`` makes the same tensor anew as often
as a test wants it, in a storage without an element to spare, so that AddressSanitizer sees every
read beyond it.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from gencore.ops import backend

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# The daily run repeats the same examples; one that asks for a number gets new ones each time.
_EXAMPLES = os.environ.get("GENCORE_FUZZ_EXAMPLES")


def fuzz(examples: int) -> settings:
    """Settings of a test that by default runs ``examples`` examples, always the same."""
    return settings(
        max_examples=int(_EXAMPLES) if _EXAMPLES else examples,
        derandomize=not _EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Around a Philox block, a kernel's block, a thread's share of the work.
_BOUNDARIES = st.sampled_from(
    [3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 129, 16383, 16384, 16385, 32769]
)
_SMALL = st.sampled_from([1, 2, 3, 4, 5, 7, 0])

shapes = st.one_of(
    st.lists(_SMALL, max_size=5).map(tuple),
    st.tuples(_BOUNDARIES),
    st.tuples(st.integers(1, 3), _BOUNDARIES),
    st.tuples(_BOUNDARIES, st.integers(1, 3)),
)

int64s = st.one_of(
    st.integers(0, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-1, -(2**63), 2**63 - 1, 2**31, 2**32 - 1, 2**32]),
)
indices = st.one_of(
    st.integers(0, 200), st.integers(0, 2**62), st.sampled_from([2**32 - 1, 2**34 - 5, 2**62])
)


@dataclass(frozen=True)
class Memory:
    """A tensor to be: a place in a storage of its own, and the storage's values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    tail: int
    dtype: torch.dtype
    special: tuple[float, ...]  # strewn among normal numbers
    seed: int
    is_coefficient: bool = False  # finite and not negative

    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        extent = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)) + 1
        room = self.offset + (extent if math.prod(self.shape) else 0) + self.tail
        values = torch.randn(room, generator=generator, dtype=torch.float64)
        if self.special:
            special = torch.tensor(self.special, dtype=torch.float64)
            chosen = torch.randint(2 * len(special), (room,), generator=generator)
            values = torch.where(
                chosen < len(special), special[chosen.clamp(max=len(special) - 1)], values
            )
        if self.is_coefficient:
            values = values.abs()
        storage = values.to(self.dtype).to(device)
        return storage.as_strided(self.shape, self.stride, self.offset)

    def contiguous(self, device: torch.device | str = "cpu") -> Tensor:
        return self.tensor(device).clone(memory_format=torch.contiguous_format)


def bits(t: Tensor) -> Tensor:
    """The tensor's bytes: equal for equal NaNs, different for the two zeros."""
    return t.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[t.element_size()])


def around(view: Tensor) -> Tensor:
    """The bits of the storage that do not belong to ``view``."""
    storage = view._base
    inside = torch.zeros(storage.shape, dtype=torch.bool, device=view.device)
    inside.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(True)
    return bits(storage)[~inside]


def assert_untouched(arguments: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Check that every tensor drawn as a ``Memory``, storage included, is as freshly built."""
    for name, tensor in arguments.items():
        if isinstance(tensor, Tensor) and tensor._base is not None:
            assert torch.equal(bits(tensor._base), bits(fresh[name]._base)), name


# How far the reference may be from itself in another precision, relative to the value, and how far
# the kernel may then be from it.
_CLOSE = {
    torch.float64: (1e-3, 1e-7),
    torch.float32: (1e-3, 5e-3),
    torch.bfloat16: (0.02, 0.05),
    torch.float16: (4e-3, 0.01),
}


def assert_agrees(
    call: Callable[[dict[str, Any]], Sequence[Tensor | None]],
    arguments: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    """Check the kernel against the reference wherever that bears another precision and a change of
    its arguments by a millionth: elsewhere an overflow or a cancellation makes of it what roundings
    will."""
    other = torch.float32 if dtype == torch.float64 else torch.float64

    def changed(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        change = 1e-6 * torch.arange(value.numel(), device=value.device).cos()
        return value.to(other) * (1 + change.to(other)).view(value.shape)

    ours = call(arguments)
    nearby = {name: changed(value) for name, value in arguments.items()}
    with backend("reference"):
        results = zip(ours, call(arguments), call(nearby), strict=True)
    trusted, allowed = _CLOSE[dtype]
    for number, (a, b, witness) in enumerate(results):
        if a is None or b is None or witness is None:
            assert a is b is witness is None, number
            continue
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        wrong = _close(witness, b, trusted) & ~_close(a, b, allowed)
        if dtype == torch.float64:  # the witness overflows earlier
            wrong &= b.isfinite()
        assert not wrong.any(), (number, a[wrong][:3], b[wrong][:3])


def _close(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    if not a.is_floating_point():
        return a == b
    # A little below the largest number, where the order of products decides on an overflow.
    a, b = (
        t.double().where(t.abs() < torch.finfo(t.dtype).max / 64, torch.inf * t.sign())
        for t in (a, b)
    )
    near = (a - b).abs() <= tolerance * b.abs() + 1e-2 * tolerance
    opposite = a.isinf() & b.isinf() & (a != b)
    return torch.where(a.isfinite() & b.isfinite(), near, a.isfinite() == b.isfinite()) & ~opposite


@st.composite
def _places(draw, shape, *, writable):
    """Strides, offset and tail: contiguous, permuted and stepped, or with repeated elements."""
    kind = draw(st.integers(0, 2 if writable else 3))
    stride = [0] * len(shape)
    if kind == 3:
        stride = [draw(st.integers(0, 3)) for _ in shape]
    else:
        order, gap, extent = range(len(shape)), st.just(1), 1
        if kind == 2:
            order, gap = draw(st.permutations(order)), st.integers(1, 3)
        for dim in reversed(order):
            stride[dim] = extent * draw(gap)
            extent = stride[dim] * max(shape[dim], 1)
    offset, tail = (0, 0) if kind == 0 else (draw(st.integers(0, 5)), draw(st.integers(0, 2)))
    return tuple(stride), offset, tail


def _special_values(dtype: torch.dtype) -> st.SearchStrategy[float]:
    limits = torch.finfo(dtype)
    smallest = limits.tiny * limits.eps
    magnitudes = [0.0, 1.0, limits.tiny, smallest, 3 * smallest, limits.max]
    return st.one_of(
        st.floats(-4, 4),
        st.sampled_from([*magnitudes, *(-m for m in magnitudes)]),
        st.sampled_from([math.nan, math.inf, -math.inf]),
    )


@st.composite
def memories(draw, shape, dtype, *, writable=False, is_coefficient=False):
    """A tensor of that shape and dtype, anywhere in memory, with any values."""
    stride, offset, tail = draw(_places(shape, writable=writable))
    values = _coefficients if is_coefficient else _special_values(dtype)
    special = tuple(draw(st.lists(values, max_size=4)))
    return Memory(
        shape, stride, offset, tail, dtype, special, draw(st.integers(0, 99)), is_coefficient
    )


@st.composite
def keys(draw, *, contiguous=False):
    """An int64 ``[seed, offset]``, in memory of any stride."""
    key = torch.tensor([draw(int64s), draw(int64s)])
    gap = 1 if contiguous else draw(st.integers(1, 2))
    return key.repeat_interleave(gap)[::gap]


# Coefficients of a step. The largest make products overflow; the smallest are subnormal in float32.
_coefficients = st.one_of(
    st.floats(0, 2), st.sampled_from([0.0, 5e-324, 1e-40, 1e-30, 60.0, 1e30, 3e38])
)


@st.composite
def _per_chain(draw, shape, depth):
    leading = shape[:depth] + (1,) * draw(st.integers(0, len(shape) - depth))
    dtype = draw(st.sampled_from([*DTYPES, torch.int64]))
    coefficients = draw(memories(leading, torch.float32, is_coefficient=True))
    limit = 60.0 if dtype in (torch.float16, torch.int64) else 3e38
    special = tuple(value for value in coefficients.special if value <= limit)
    return replace(coefficients, dtype=dtype, special=special)


@st.composite
def steps(draw, *, writable=False, plain=None):
    """Valid arguments of ``langevin_step``; ``plain`` asks for the samplers' common call."""
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    arguments = {
        "x": draw(memories(shape, dtype, writable=writable)),
        "grad": draw(memories(shape, dtype)),
        "step_size": draw(_coefficients),
        "key": draw(keys()),
    }
    if draw(st.booleans()) if plain is None else plain:
        return arguments
    depth = draw(st.integers(0, len(shape)))
    if draw(st.booleans()):
        arguments["step_size"] = draw(_per_chain(shape, depth))
    scales = st.one_of(st.none(), _coefficients, _per_chain(shape, depth))
    bound = st.one_of(st.none(), st.floats(-3, 3), st.sampled_from([-math.inf, 0.0, 1e30]))
    low, high = draw(bound), draw(bound)
    if low is not None and high is not None and low > high:
        low, high = high, low
    optional = {
        "noise_scale": draw(scales),
        "prior_precision": draw(st.one_of(st.floats(-2, 2), st.sampled_from([0.0, 1e-40, -1e30]))),
        "grad_clamp": draw(st.one_of(st.none(), st.sampled_from([1e-30, 0.5, 1e30, math.inf]))),
        "clamp": draw(st.sampled_from([None, (low, high)])),
        "noise": draw(st.one_of(st.none(), memories(shape, dtype))),
        "first_element": draw(indices),
    }
    return {**arguments, **optional}


def build(arguments: Mapping[str, Any], device: torch.device | str, *, copy: bool = False) -> Any:
    """The arguments with their tensors made, or made contiguous."""

    def value(argument: Any) -> Any:
        if isinstance(argument, Memory):
            return argument.contiguous(device) if copy else argument.tensor(device)
        return argument.to(device) if isinstance(argument, Tensor) else argument

    return {name: value(argument) for name, argument in arguments.items()}
