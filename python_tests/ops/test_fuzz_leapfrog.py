"""Leapfrog steps and Metropolis decisions over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit, in place or not, and the reference to rounding.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import (
    DTYPES,
    around,
    assert_agrees,
    assert_untouched,
    build,
    fuzz,
    indices,
    keys,
    memories,
    shapes,
)
from torch import Tensor

from gencore.ops import (
    leapfrog_end,
    leapfrog_start,
    leapfrog_step,
    leapfrog_step_,
    metropolis_accept,
    metropolis_accept_,
)

STATES = ("x", "momentum", "grad")
DECIDED = ("x", "grad", "proposal", "proposal_grad")
ENERGIES = ("energy", "proposal_energy", "kinetic", "proposal_kinetic")


@st.composite
def leapfrogs(draw, names, *, writable=()):
    """Valid arguments of a leapfrog operator with these states."""
    shape, dtype = draw(shapes.filter(len)), draw(st.sampled_from(DTYPES))
    arguments = {n: draw(memories(shape, dtype, writable=n in writable)) for n in names}
    number = st.sampled_from([0.0, 1e-3, 0.5, 2.0])
    chains = memories(shape[:1], torch.float32, is_coefficient=True)
    arguments["step_size"] = draw(st.one_of(number, chains))
    kept = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    broadcast = tuple(n if keep else 1 for n, keep in zip(shape, kept, strict=True))
    wide = torch.float64 if draw(st.booleans()) else torch.float32
    mass = memories(broadcast, wide, is_coefficient=True)
    arguments["inverse_mass"] = draw(st.one_of(st.sampled_from([0.25, 1.0]), mass))
    return arguments


@st.composite
def decisions(draw, *, writable=()):
    """Valid arguments of ``metropolis_accept``."""
    shape, dtype = draw(shapes.filter(len)), draw(st.sampled_from(DTYPES))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        **{n: draw(memories(shape, dtype, writable=n in writable)) for n in DECIDED},
        **{n: draw(memories(shape[:1], wide, writable=n in writable)) for n in ENERGIES},
        "key": draw(keys()),
        "first_chain": draw(indices.filter(lambda first: first < 2**62 - 2**20)),
    }


def built(case, device, **how):
    """The arguments, with masses that are positive."""
    arguments = build(case, device, **how)
    mass = arguments.get("inverse_mass")
    if isinstance(mass, Tensor):
        storage = mass if mass._base is None else mass._base  # whose elements the view may repeat
        storage.clamp_(0.1, 10.0)
    return arguments


def assert_equal(results, expected) -> None:
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a.contiguous(), b, rtol=0, atol=0, equal_nan=True)


@fuzz(100)
@given(leapfrogs(("x", "grad", "noise")), st.data())
def test_a_start_reads_what_it_is_given(device, case, data):
    if data.draw(st.booleans()):
        case = {n: v for n, v in case.items() if n != "noise"}
        first = st.integers(0, 2**62 - 2**20)
        case |= {"key": data.draw(keys()), "first_element": data.draw(first)}
    arguments = built(case, device)
    results = leapfrog_start(**arguments)
    assert_untouched(arguments, built(case, device))
    copies = built(case, device, copy=True)
    assert_equal(results, leapfrog_start(**copies))
    assert_agrees(lambda a: leapfrog_start(**a), copies, copies["x"].dtype)


@fuzz(100)
@given(leapfrogs(STATES, writable=("x", "momentum")), st.booleans())
def test_a_step_reads_what_it_is_given_and_writes_in_place(device, case, grad_enabled):
    arguments, fresh = built(case, device), built(case, device)
    copies = built(case, device, copy=True)
    expected = leapfrog_step(**copies)
    assert_agrees(lambda a: leapfrog_step(**a), copies, copies["x"].dtype)
    assert_equal(leapfrog_step(**arguments), expected)
    assert_untouched(arguments, fresh)
    with torch.set_grad_enabled(grad_enabled):
        results = leapfrog_step_(**arguments)
    assert_equal(results, expected)
    for name in ("x", "momentum"):
        written = arguments.pop(name)
        assert torch.equal(around(written), around(fresh[name]))
    assert_untouched(arguments, fresh)


@fuzz(60)
@given(leapfrogs(("momentum", "grad")))
def test_an_end_reads_what_it_is_given(device, case):
    arguments = built(case, device)
    results = leapfrog_end(**arguments)
    assert_untouched(arguments, built(case, device))
    copies = built(case, device, copy=True)
    assert_equal(results, leapfrog_end(**copies))
    assert_agrees(lambda a: leapfrog_end(**a), copies, copies["momentum"].dtype)


@fuzz(120)
@given(decisions(writable=("x", "grad", "energy")))
def test_a_decision_reads_what_it_is_given_and_writes_in_place(device, case):
    arguments, fresh = built(case, device), built(case, device)
    copies = built(case, device, copy=True)
    expected = metropolis_accept(**copies)
    assert_agrees(lambda a: metropolis_accept(**a), copies, copies["x"].dtype)
    assert_equal(metropolis_accept(**arguments), expected)
    assert_untouched(arguments, fresh)
    assert not (expected.is_accepted & (expected.acceptance_rate == 0)).any()
    assert_equal(metropolis_accept_(**arguments), expected)
    for name in ("x", "grad", "energy"):
        written = arguments.pop(name)
        assert torch.equal(around(written), around(fresh[name]))
    assert_untouched(arguments, fresh)
