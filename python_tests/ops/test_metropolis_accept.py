"""The Metropolis decision: exact balances, proposals that are not finite, both forms, bad input."""

import itertools
import math

import pytest
import torch
from testing.op_tester import DTYPES, LAYOUTS
from torch import Tensor

from gencore.ops import MetropolisStep, backend, metropolis_accept, metropolis_accept_, philox_words

OPERANDS = (
    "x", "grad", "energy", "proposal", "proposal_grad", "proposal_energy", "kinetic",
    "proposal_kinetic",
)  # fmt: skip
SHAPES = ((0,), (1,), (5,), (3, 0, 2), (7, 33), (64, 2), (2, 3, 5, 7), (3, 20001), (501, 67))


def operands(shape=(5, 4), dtype=torch.float32, device="cpu", seed=1) -> dict[str, Tensor]:
    """Proposals of every kind: some accepted, some not, some that are not finite."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    result = {}
    for name in OPERANDS:
        is_state = name in ("x", "grad", "proposal", "proposal_grad")
        size, kind = (shape, dtype) if is_state else (shape[:1], wide)
        values = torch.randn(size, generator=generator, dtype=torch.float64)
        result[name] = values.to(device, kind)
    for chain, name in ((2, "proposal"), (4, "proposal_grad"), (6, "proposal_energy")):
        if shape[0] > chain and result[name][chain].numel() > 0:
            result[name][chain].view(-1)[-1] = (math.nan, math.inf, -math.inf)[chain // 2 - 1]
    return result


def assert_same(a: MetropolisStep, b: MetropolisStep) -> None:
    for name, one, two in zip(MetropolisStep._fields, a, b, strict=True):
        exact = {"rtol": 0.0, "atol": 0.0} if name != "acceptance_rate" else {}
        torch.testing.assert_close(one, two, equal_nan=True, **exact, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_reference(shape, dtype, device):
    tensors = operands(shape, dtype, device)
    key = torch.tensor([3, 4], device=device)
    step = metropolis_accept(**tensors, key=key, max_energy_error=1.0)
    with backend("reference"):
        assert_same(step, metropolis_accept(**tensors, key=key, max_energy_error=1.0))
    assert isinstance(step, MetropolisStep)
    if shape[0] > 60:
        assert 0.2 < step.is_accepted.float().mean() < 0.8
        assert step.is_divergent.any()


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_place_equals_functional(shape, name, device):
    tensors = operands(shape, torch.bfloat16, device)
    key = torch.tensor([3, 4], device=device)
    expected = metropolis_accept(**tensors, key=key)
    written = [tensors[n] for n in OPERANDS[:3]]
    versions = [t._version for t in written]
    with backend(name):
        step = metropolis_accept_(**tensors, key=key)
    assert_same(step, expected)
    for ours, tensor, version in zip(step, written, versions, strict=False):
        assert ours is tensor
        assert tensor._version > version


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layout_does_not_change_the_result(layout, device):
    tensors = operands((3, 3, 5, 7), torch.float32, device)
    key = torch.tensor([3, 4], device=device)
    expected = metropolis_accept(**tensors, key=key)
    laid_out = {n: layout(t) if t.dim() == 4 else t for n, t in tensors.items()}
    step = metropolis_accept(**laid_out, key=key)
    assert_same(step, expected)
    assert step.position.stride() == torch.empty_like(laid_out["x"]).stride()
    assert_same(metropolis_accept_(**laid_out, key=key), expected)
    assert torch.equal(laid_out["x"], expected.position)


def test_operands_may_share_the_memory_of_x(device):
    tensors = operands((6, 4), torch.float32, device)
    room = torch.arange(1.0, 51.0, device=device)
    tensors.update(
        x=room[:24].view(6, 4), proposal=room[4:28].view(6, 4), grad=room[26:].view(6, 4)
    )
    key = torch.tensor([8, 4], device=device)
    expected = metropolis_accept(**{n: t.clone() for n, t in tensors.items()}, key=key)
    assert 0 < expected.is_accepted.sum() < 6
    step = metropolis_accept_(**tensors, key=key)
    assert torch.equal(step.position, expected.position)


def test_detailed_balance_by_enumeration(device):
    """π(a) P(a → b) = π(b) P(b → a) for every pair of five states, exactly.

    The uniforms are the midpoints of M bins, so that the share of accepted ones is the acceptance
    rate to 1/M; the rates themselves balance to rounding.
    """
    energies = torch.tensor([0.0, 0.3, -1.1, 2.0, 0.7], dtype=torch.float64, device=device)
    bins = 4096
    uniform = (torch.arange(bins, dtype=torch.float64, device=device) + 0.5) / bins
    weight = (-energies).exp()
    flow, rates = torch.zeros(5, 5).to(energies), torch.zeros(5, 5).to(energies)
    zero = torch.zeros(bins, dtype=torch.float64, device=device)
    for a, b in itertools.product(range(5), repeat=2):
        x, proposal = (torch.full((bins, 1), float(s)).to(energies) for s in (a, b))
        step = metropolis_accept(
            x, x, zero + energies[a], proposal, proposal, zero + energies[b], zero, zero,
            uniform=uniform,
        )  # fmt: skip
        moved = step.position[:, 0] == b
        assert torch.equal(moved, step.is_accepted)
        assert torch.equal(step.energy, energies[torch.where(moved, b, a)])
        flow[a, b] = weight[a] * moved.double().mean()
        rates[a, b] = weight[a] * step.acceptance_rate[0]
    torch.testing.assert_close(rates, rates.T, rtol=1e-14, atol=0.0)
    assert ((flow - flow.T).abs() <= 2 * weight.max() / bins).all()
    # A symmetric proposal with these rates leaves exp(-E) as it is.
    transition = rates / weight.unsqueeze(1) / 5
    transition += torch.diag(1 - transition.sum(1))
    torch.testing.assert_close(weight @ transition, weight, rtol=1e-14, atol=0.0)


def test_the_kinetic_energies_count(device):
    one = torch.ones(4, 1, dtype=torch.float64, device=device)
    e, new_e, k, new_k = torch.tensor(
        [[1.0, 5.0, 0.0, 2.0], [2.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.5, 0.0], [1.0, 1.0, 2.0, 1.5]],
        dtype=torch.float64, device=device,
    )  # fmt: skip
    uniform = torch.full((4,), 0.5, dtype=torch.float64, device=device)
    step = metropolis_accept(one, one, e, 2 * one, one, new_e, k, new_k, uniform=uniform)
    expected = torch.tensor([1.0, 1.0, math.exp(-1.5), 1.0], dtype=torch.float64, device=device)
    torch.testing.assert_close(step.acceptance_rate, expected)
    assert step.is_accepted.tolist() == [True, True, False, True]


def test_the_uniforms_are_the_keys_words(device):
    """Rates that lie on both sides of each chain's uniform, close by, decide as they should."""
    key, chains = torch.tensor([7, 9], device=device), 23
    uniform = (philox_words((chains,), key, first_element=5).double() + 0.5) / 2**32
    x = torch.zeros(chains, 2, dtype=torch.float64, device=device)
    zero = torch.zeros(chains, dtype=torch.float64, device=device)
    for factor, accepted in ((1 + 1e-9, True), (1 - 1e-9, False)):
        energy = -(uniform * factor).log()
        step = metropolis_accept(x, x, zero, x, x, energy, zero, zero, key=key, first_chain=5)
        assert (step.is_accepted == accepted).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["proposal", "proposal_grad", "proposal_energy", "proposal_kinetic"]
)
def test_what_is_not_finite_is_rejected_flagged_and_not_stored(name, bad, device):
    for dtype, size in itertools.product(DTYPES, (1, 3, 9, 1500)):
        tensors = operands((4, size), dtype, device)
        for n in OPERANDS[3:]:
            tensors[n] = torch.full_like(tensors[n], -5.0)
        for chain, place in ((1, 0), (3, size - 1)):
            tensors[name][(chain, place) if tensors[name].dim() == 2 else chain] = bad
        low = torch.full_like(tensors["energy"], 1e-6)
        old = {n: t.clone() for n, t in tensors.items()}
        for call in (metropolis_accept, metropolis_accept_):
            step = call(**tensors, uniform=low)
            assert step.is_accepted.tolist() == [True, False, True, False]
            assert step.is_divergent.tolist() == [False, True, False, True]
            assert step.acceptance_rate[1::2].tolist() == [0.0, 0.0]
            for result, n, new in zip(step, OPERANDS[:3], OPERANDS[3:6], strict=False):
                assert torch.equal(result[1::2], old[n][1::2])
                assert torch.equal(result[::2], tensors[new][::2])


def test_odd_current_energies(device):
    """+∞ takes any finite proposal; NaN and −∞ take none; two infinities have no difference."""
    energy = torch.tensor([math.inf, math.nan, -math.inf, math.inf], device=device)
    proposal_energy = torch.tensor([1e30, 0.0, 0.0, math.inf], device=device)
    x, zero = torch.zeros(4, 3, device=device), torch.zeros(4, device=device)
    high = torch.full((4,), 0.999, device=device)
    step = metropolis_accept(x, x, energy, x + 1, x, proposal_energy, zero, zero, uniform=high)
    assert step.is_accepted.tolist() == [True, False, False, False]
    assert step.acceptance_rate.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert step.is_divergent.tolist() == [False, True, True, True]


def test_the_bound_on_the_energy_error(device):
    error = torch.tensor([-5000.0, 0.5, 999.0, 1001.0], device=device)
    x, zero = torch.zeros(4, 3, device=device), torch.zeros(4, device=device)
    for bound, expected in ((1000.0, [0, 0, 0, 1]), (0.25, [0, 1, 1, 1]), (math.inf, [0, 0, 0, 0])):
        step = metropolis_accept(x, x, zero, x, x, error, zero, zero, max_energy_error=bound)
        assert step.is_divergent.tolist() == [bool(flag) for flag in expected]


def test_large_energies_do_not_round_the_error(device):
    x, zero = torch.zeros(1, 1, device=device), torch.zeros(1, device=device)
    energy = torch.tensor([16777216.0], device=device)
    rates = [
        metropolis_accept(x, x, energy, x, x, energy + 2, zero + k, zero).acceptance_rate.item()
        for k in (1.25, 0.5)
    ]
    assert rates == pytest.approx([math.exp(-0.75), math.exp(-1.5)], rel=1e-6)


@pytest.mark.parametrize("size", [1, 3, 64, 1001])
def test_a_split_batch_decides_alike(size, device):
    for cut in (1, 4, 6, 64):
        tensors, key = (
            operands((97, size), torch.float32, device),
            torch.tensor([5, 6], device=device),
        )
        whole = metropolis_accept(**tensors, key=key, first_chain=3)
        parts = [
            metropolis_accept(
                **{n: t[rows] for n, t in tensors.items()}, key=key, first_chain=first
            )
            for rows, first in ((slice(0, cut), 3), (slice(cut, None), 3 + cut))
        ]
        for pair, expected in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(pair), expected)


def test_threads_do_not_change_the_result(device):
    tensors = operands((1001, 67), torch.float32, device)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(metropolis_accept(**tensors, key=torch.tensor([1, 2], device=device)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_the_generator_governs_the_uniforms():
    tensors = operands((200, 2))
    steps = []
    for name in ("native", "reference"):
        torch.manual_seed(5)
        with backend(name):
            steps.append(metropolis_accept(**tensors))
    assert_same(*steps)
    other = metropolis_accept(**tensors, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(other.is_accepted, steps[0].is_accepted)


def test_opcheck(device):
    tensors, key = operands((4, 3), torch.float64, device), torch.tensor([1, 2], device=device)
    rest = (None, key, 0, 1000.0)
    torch.library.opcheck(torch.ops.gencore.metropolis_accept.default, (*tensors.values(), *rest))
    torch.library.opcheck(torch.ops.gencore.metropolis_accept_.default, (*tensors.values(), *rest))


@pytest.mark.parametrize("call", [metropolis_accept, metropolis_accept_])
def test_compiles_without_graph_breaks(call, device):
    tensors, key = operands((6, 3), torch.float32, device), torch.tensor([1, 2], device=device)
    expected = metropolis_accept(**tensors, key=key)
    torch.compiler.reset()
    compiled = torch.compile(lambda t: call(**t, key=key), fullgraph=True, backend="aot_eager")
    assert_same(compiled(tensors), expected)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": [0.0]}, TypeError, "x must be a tensor, got list"),
        ({"x": torch.zeros(())}, ValueError, "x has no dimensions"),
        ({"grad": torch.zeros(5, 3)}, ValueError, r"grad has shape \[5, 3\]"),
        ({"proposal": torch.zeros(5, 4).double()}, TypeError, "proposal is torch.float64"),
        ({"proposal_grad": None}, TypeError, "proposal_grad must be a tensor"),
        ({"energy": torch.zeros(5).double()}, TypeError, "energy is torch.float64, expected"),
        (
            {"energy": torch.zeros(5, 1)},
            ValueError,
            r"energy has shape \[5, 1\], expected one entry",
        ),
        ({"proposal_energy": torch.zeros(4)}, ValueError, r"proposal_energy has shape \[4\]"),
        ({"kinetic": 1.0}, TypeError, "kinetic must be a tensor, got float"),
        ({"proposal_kinetic": torch.zeros(5, device="meta")}, ValueError, "is on meta, x on cpu"),
        ({"uniform": torch.zeros(3)}, ValueError, r"uniform has shape \[3\]"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"generator": "a"}, TypeError, "generator must be a torch.Generator"),
        ({"first_chain": -1}, ValueError, "first_chain must not be negative"),
        ({"max_energy_error": 0.0}, ValueError, "max_energy_error must be positive"),
        ({"max_energy_error": math.nan}, ValueError, "max_energy_error must be positive"),
        ({"energy": torch.zeros(5, requires_grad=True)}, ValueError, "energy requires grad"),
        ({"x": torch.zeros(5, 4, requires_grad=True)}, ValueError, "x requires grad"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for call in (metropolis_accept, metropolis_accept_):
        for name in ("native", "reference"):
            with backend(name), pytest.raises(error, match=message) as caught:
                call(**{**operands(), **wrong})
            assert str(caught.value).startswith(f"{call.__name__}: ")


def test_under_no_grad_what_requires_grad_is_taken():
    tensors = operands()
    tensors["x"].requires_grad_()
    with torch.no_grad():
        step = metropolis_accept(**tensors)
        metropolis_accept_(**tensors)
    assert not step.position.requires_grad


def test_repeated_elements_are_not_written_to():
    tensors = operands()
    tensors["energy"] = torch.zeros(1).expand(5)
    with pytest.raises(ValueError, match=r"^metropolis_accept_: energy, of shape \[5\] .* repeats"):
        metropolis_accept_(**tensors)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_no_uniform_accepts_what_is_not_finite(name):
    one, zero = torch.ones(1, 1), torch.zeros(1)
    with backend(name):
        step = metropolis_accept(
            0 * one, one, zero, one, one, zero + torch.inf, zero, zero, uniform=zero - 1
        )
    assert step.position.item() == 0.0
    assert not step.is_accepted
