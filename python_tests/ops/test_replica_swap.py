"""Exchanges between replicas: detailed balance by enumeration, the reference, bad input."""

import itertools
import math

import pytest
import torch
from testing.op_tester import channels_last, offset, strided, transposed

from gencore.ops import backend, philox_words, replica_swap_

KEY = (5, 9)


def states(shape, dtype=torch.float32, energy_dtype=torch.float32, device="cpu", seed=0):
    """Distinct rows with random energies of a few units; grad is the negative of x."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).to(device, dtype)
    energy = (3 * torch.rand(shape[:2], generator=generator)).to(device, energy_dtype)
    beta = torch.linspace(1.0, 0.1, shape[0]).to(device)
    return {"x": x, "energy": energy, "inverse_temperature": beta, "grad": -x}


def swapped(arguments, **more):
    """is_accepted and the tensors after an exchange of copies."""
    copies = {name: t.clone() for name, t in arguments.items()}
    return (replica_swap_(**copies, **more), *copies.values())


def test_detailed_balance_by_enumeration(device):
    """π(s) P(s → t) = π(t) P(t → s) for all joint states s, t of three replicas of three states.

    With energies in units of ln 2 and β = 2, 1, 0 every acceptance probability is a power of 1/2,
    so that 16 evenly spread uniforms give the transition matrix exactly.
    """
    num = 16
    joint = list(itertools.product(range(3), repeat=3))
    beta = torch.tensor([2.0, 1.0, 0.0], device=device)
    grid = (torch.arange(num, dtype=torch.float64, device=device) + 0.5) / num
    x = torch.tensor(joint, dtype=torch.float64, device=device).T.repeat_interleave(num, 1)
    density = torch.tensor([2.0 ** -(2 * a + b) for a, b, _ in joint], dtype=torch.float64)
    for parity in (0, 1):
        moved, energy = x.clone(), math.log(2) * x
        replica_swap_(moved, energy, beta, parity, uniform=grid.repeat(2, len(joint)))
        torch.testing.assert_close(energy, math.log(2) * moved)
        transition = torch.zeros(len(joint), len(joint), dtype=torch.float64)
        for start, end in enumerate(moved.T.tolist()):
            transition[start // num, joint.index(tuple(end))] += 1 / num
        flow = density[:, None] * transition
        assert torch.equal(flow, flow.T)
        swaps = transition.diag() < 1
        kept = [s[:2] if parity == 0 else s[1:] for s in joint]
        assert swaps.tolist() == [a != b for a, b in kept]


def test_each_pair_by_hand(device):
    """Acceptance 1 downhill, e^(−½) = 0.61 for ΔβΔE = −½, and the last replica has no partner."""
    x = torch.arange(6.0, device=device).view(3, 2, 1)
    energy = torch.tensor([[2.0, 1.0], [1.0, 2.0], [7.0, 8.0]], device=device)
    beta = torch.tensor([1.0, 0.5, 0.25], device=device)
    for uniform, second in ((0.60, True), (0.61, False)):
        is_accepted, moved, energies, *_ = swapped(
            {"x": x, "energy": energy, "inverse_temperature": beta},
            parity=0,
            uniform=torch.full((2, 2), uniform, device=device),
        )
        assert is_accepted.tolist() == [[True, second], [True, second], [False, False]]
        assert moved.flatten().tolist() == [2.0, 3.0 if second else 1.0, 0.0,
                                            1.0 if second else 3.0, 4.0, 5.0]  # fmt: skip
        assert energies[:2, 0].tolist() == [1.0, 2.0]


SHAPES = ((2, 0, 3), (1, 4, 2), (2, 1, 1), (2, 5), (3, 7, 4), (4, 3, 2, 3, 5), (5, 2, 333))


@pytest.mark.parametrize(("parity", "given"), [(0, False), (1, False), (1, True)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "energy_dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float64),
    ],
    ids=str,
)
def test_it_matches_the_reference(shape, dtype, energy_dtype, given, parity, device):
    arguments = states(shape, dtype, energy_dtype, device)
    how = {"parity": parity, "key": torch.tensor(KEY, device=device), "first_pair": 3}
    if given:
        how["uniform"] = torch.rand(shape[0] - 1, shape[1], device=device)
    ours = swapped(arguments, **how)
    with backend("reference"):
        reference = swapped(arguments, **how)
    for a, b in zip(ours, reference, strict=True):
        assert torch.equal(a, b)
    is_accepted, x, _, _, grad = ours
    assert torch.equal(grad, -x)
    rest = x.shape[2:].numel()
    changed = (x != arguments["x"]).reshape(*shape[:2], rest).any(2)
    assert torch.equal(changed, is_accepted)


@pytest.mark.parametrize("layout", [transposed, strided, offset, channels_last])
def test_the_layout_does_not_matter(layout, device):
    arguments = states((4, 3, 6, 5), device=device)
    how = {"parity": 0, "key": torch.tensor(KEY, device=device)}
    expected = swapped(arguments, **how)
    laid_out = {n: t if n == "inverse_temperature" else t.clone() for n, t in arguments.items()}
    for name in ("x", "grad"):
        laid_out[name] = layout(laid_out[name])
    laid_out["energy"] = strided(laid_out["energy"])
    assert torch.equal(replica_swap_(**laid_out, **how), expected[0])
    for ours, wanted in zip(laid_out.values(), expected[1:], strict=True):
        assert torch.equal(ours, wanted)


def test_energies_that_are_not_finite_never_swap(device):
    bad = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 0.0, 0.0], device=device)
    energy = torch.stack([bad, bad.flip(0)])
    beta = torch.tensor([1.0, 0.5], device=device)
    for name in ("native", "reference"):
        for low, high in ((1.0, 0.5), (0.5, 1.0)):
            beta = torch.tensor([low, high], device=device)
            x = torch.arange(12.0, device=device).view(2, 6)
            with backend(name):
                is_accepted = replica_swap_(x, energy.clone(), beta, 0)
            assert not is_accepted.any()
            assert torch.equal(x, torch.arange(12.0, device=device).view(2, 6))


def test_the_uniforms_are_the_keys_words(device):
    """Energies between the acceptance probabilities of neighbouring uniforms tell them apart."""
    key, replicas, chains, first = torch.tensor(KEY, device=device), 4, 50, 6
    words = philox_words((chains, replicas - 1), key, first_element=first).T
    uniform = (words.double() + 0.5) * 2.0**-32
    beta = torch.arange(replicas, 0, -1, dtype=torch.float64, device=device)
    for parity in (0, 1):
        for nudge, accepts in ((1e-9, True), (-1e-9, False)):
            energy = torch.zeros(replicas, chains, dtype=torch.float64, device=device)
            energy[parity + 1 :: 2] = -(uniform + nudge).log()[parity::2]
            x = energy.clone()
            is_accepted = replica_swap_(x, energy, beta, parity, key=key, first_pair=first)
            members = 2 * ((replicas - parity) // 2) * chains
            assert is_accepted.sum().item() == (members if accepts else 0)


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_a_part_of_the_chains_is_exchanged_as_in_the_whole(cut, device):
    key, arguments = torch.tensor(KEY, device=device), states((5, 9, 3), device=device)
    whole = swapped(arguments, parity=1, key=key)
    for first, last in ((0, cut), (cut, 9)):
        part = {
            name: t if name == "inverse_temperature" else t[:, first:last]
            for name, t in arguments.items()
        }
        part = swapped(part, parity=1, key=key, first_pair=4 * first)
        for ours, wanted in zip(part, whole, strict=True):
            assert torch.equal(ours, wanted if wanted.dim() == 1 else wanted[:, first:last])


def test_it_is_deterministic_for_any_number_of_threads(device):
    arguments = states((6, 501, 37), device=device)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(swapped(arguments, parity=0, key=torch.tensor(KEY, device=device)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_the_generator_governs_the_uniforms():
    arguments = states((2, 200))

    def run(**how):
        return swapped(arguments, parity=0, **how)[0]

    torch.manual_seed(3)
    first, second = run(), run()
    assert not torch.equal(first, second)
    assert torch.equal(run(generator=torch.Generator().manual_seed(3)), first)


@pytest.mark.parametrize("with_grad", [False, True])
def test_opcheck(with_grad, device):
    t = states((3, 4, 2), device=device)
    flags = torch.zeros(3, 4, dtype=torch.bool, device=device)
    for uniform, key in (
        (torch.rand(2, 4, dtype=torch.float64, device=device), None),
        (None, torch.tensor(KEY, device=device)),
    ):
        torch.library.opcheck(
            torch.ops.gencore.replica_swap_.default,
            (
                t["x"], t["energy"], t["grad"] if with_grad else None, flags,
                t["inverse_temperature"].double(), uniform, key, 0, 0,
            ),
        )  # fmt: skip


def test_it_compiles_without_graph_breaks(device):
    arguments, key = states((3, 4, 2), device=device), torch.tensor(KEY, device=device)

    def exchange(x, energy, beta, grad):
        return replica_swap_(x, energy, beta, 0, grad=grad, key=key)

    expected = swapped(arguments, parity=0, key=key)
    torch.compiler.reset()
    compiled = torch.compile(exchange, fullgraph=True, backend="aot_eager")
    copies = [t.clone() for t in arguments.values()]
    for ours, eager in zip((compiled(*copies), *copies), expected, strict=True):
        assert torch.equal(ours, eager)


def test_it_is_seen_by_autograd():
    t = states((2, 3, 2))
    weight = torch.ones(2, 3, 2, requires_grad=True)
    for name in ("x", "grad"):
        loss = (weight * t[name]).sum()  # saves it
        with torch.no_grad():
            replica_swap_(**t, parity=0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


SHARED = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.zeros(2)}, ValueError, r"x has shape \[2\], expected replicas of chains"),
        ({"x": torch.zeros(2, 3).int()}, TypeError, "x is torch.int32"),
        (
            {"energy": torch.zeros(3, 2)},
            ValueError,
            r"energy has shape \[3, 2\], expected \[2",
        ),
        ({"energy": torch.zeros(2, 3).half()}, TypeError, "energy is torch.float16, expected"),
        ({"energy": [0.0]}, TypeError, "energy must be a tensor, got list"),
        ({"energy": torch.zeros(2, 3, device="meta")}, ValueError, "energy is on meta, x on cpu"),
        ({"grad": torch.zeros(2, 3)}, ValueError, r"grad has shape \[2, 3\]"),
        ({"inverse_temperature": torch.ones(3)}, ValueError, r"expected \[2\]"),
        ({"inverse_temperature": 1.0}, TypeError, "inverse_temperature must be a tensor"),
        (
            {"inverse_temperature": torch.tensor([1.0, -0.5])},
            ValueError,
            "inverse_temperature must be finite and not negative, got -0.5",
        ),
        ({"parity": 2}, ValueError, "parity must be 0 or 1, got 2"),
        ({"uniform": torch.ones(2, 3)}, ValueError, r"uniform has shape .*, expected \[1, 3\]"),
        ({"uniform": torch.ones(1, 3).long()}, TypeError, "uniform is torch.int64"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"first_pair": -1}, ValueError, "first_pair must not be negative"),
        (
            {"x": torch.zeros(1, 3, 4).expand(2, 3, 4)},
            ValueError,
            r"x, of shape \[2, 3, 4\] and strides \[0, 4, 1\], repeats",
        ),
        ({"x": SHARED, "energy": SHARED}, ValueError, "x and energy share memory"),
        ({"x": torch.zeros(2, 3, 4, requires_grad=True)}, ValueError, "but x requires grad"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    arguments = {
        "x": torch.zeros(2, 3, 4),
        "energy": torch.zeros(2, 3),
        "inverse_temperature": torch.tensor([1.0, 0.5]),
        "parity": 0,
        **wrong,
    }
    with pytest.raises(error, match=message) as caught:
        replica_swap_(**arguments)
    assert str(caught.value).startswith("replica_swap_: ")
