"""A leaf of the No-U-Turn sampler's trees: a tree that keeps every state, the reference, errors."""

import itertools
import math

import pytest
import torch
from testing.chain_testing import key, normal
from testing.nuts import copy, quartic
from testing.op_tester import DTYPES, TOLERANCE

from gencore.ops import backend, nuts_leaf_, nuts_tree, philox_normal, philox_words


def grow(tree, leaf, step_size, inverse_mass=1.0, *, energy=quartic, **more):
    nuts_leaf_(tree, *energy(tree.position), leaf, step_size, inverse_mass, **more)


def grown(x, step_size, inverse_mass=1.0, *, max_tree_depth, energy=quartic, number, **more):
    """The trees of all chains when all have stopped."""
    first = more.get("first_chain", 0) * x[0].numel()
    tree = nuts_tree(
        x, *energy(x), step_size, inverse_mass, max_tree_depth=max_tree_depth, key=number,
        first_element=first,
    )  # fmt: skip
    for leaf in range(2**max_tree_depth - 1):
        grow(tree, leaf, step_size, inverse_mass, energy=energy, key=number, **more)
        if not tree.is_running.any():
            break
    return tree


def is_turned(first, last):
    """Whether a way from one state (x, p) to another no longer grows longer at both ends."""
    way = last[0] - first[0]
    return not (way @ first[1] > 0 and way @ last[1] > 0)


def whole_is_turned(states):
    """Whether a trajectory of 2ᵈ states has turned, or one from a half to the nearest state of the
    other."""
    half = len(states) // 2
    pairs = (0, -1), (0, half), (half - 1, -1)
    return half > 0 and any(is_turned(states[first], states[last]) for first, last in pairs)


def has_turned(states):
    """Whether any balanced part of a trajectory, or the whole, has."""
    half = len(states) // 2
    return half > 0 and (
        has_turned(states[:half]) or has_turned(states[half:]) or whole_is_turned(states)
    )


def plain_nuts(x, step_size, inverse_mass, max_tree_depth, number, *, max_energy_error=1000.0):
    """One chain [D], from lists of all states: the next position, and its numbers of leaves and
    doublings, whether it diverged, and the mean acceptance rate."""

    def energy(x):
        return quartic(x[None])[0].item()

    def step(x, p, size):
        p = p - size / 2 * quartic(x[None])[1][0]
        x = x + size * inverse_mass * p
        return x, p - size / 2 * quartic(x[None])[1][0]

    def hamiltonian(x, p):
        return energy(x) + 0.5 * (inverse_mass * p * p).sum().item()

    p = philox_normal((1, len(x)), number, dtype=torch.float64)[0] / inverse_mass.sqrt()
    start, trajectory = hamiltonian(x, p), [(x, p)]
    total, leaf, is_ahead, rates = 1.0, 0, True, []
    for depth in range(max_tree_depth):
        subtree, weights, drawn = [], [], None
        state = trajectory[-1] if is_ahead else trajectory[0]
        for _ in range(2**depth):
            first_word = 4 * (2**59 + leaf)
            words = philox_words((4,), number, first_element=first_word).double()
            uniform, leaf = (words + 0.5) / 2**32, leaf + 1
            state = step(*state, step_size if is_ahead else -step_size)
            error = hamiltonian(*state) - start
            rates.append(min(1.0, math.exp(-error)))
            if error > max_energy_error:
                return x, leaf, depth, True, sum(rates) / leaf
            subtree.append(state)
            weights.append(math.exp(-error))
            if uniform[0] < weights[-1] / sum(weights):
                drawn = state[0]
            ended = [subtree[-(2**k) :] for k in range(depth + 1) if len(subtree) % 2**k == 0]
            if any(has_turned(part if is_ahead else part[::-1]) for part in ended):
                return x, leaf, depth, False, sum(rates) / leaf
            for k in range(1, depth):  # where a second half of 2ᵏ states begins
                if len(subtree) % 2 ** (k + 1) == 2**k + 1:
                    pair = (subtree[-1 - 2**k], state)[:: 1 if is_ahead else -1]
                    if is_turned(*pair):
                        return x, leaf, depth, False, sum(rates) / leaf
        if uniform[1] < sum(weights) / total:
            x = drawn
        total += sum(weights)
        trajectory = trajectory + subtree if is_ahead else subtree[::-1] + trajectory
        if whole_is_turned(trajectory):
            return x, leaf, depth + 1, False, sum(rates) / leaf
        is_ahead = bool(words[2] >= 2**31)
    return x, leaf, max_tree_depth, False, sum(rates) / leaf


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("step_size", [0.08, 0.3, 0.9])
def test_it_is_the_tree_that_keeps_every_state(step_size, name, device):
    """Of a fresh key for each single chain: the same draws must give the same trajectory."""
    inverse_mass = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, device=device)
    starts, seen = normal(25, 3, dtype=torch.float64, device=device), set()
    for seed, x in enumerate(starts):
        number = torch.tensor([seed, 5], device=device)
        with backend(name):
            tree = grown(
                x[None], step_size, inverse_mass[None], max_tree_depth=5, number=number,
                max_energy_error=1.5,
            )  # fmt: skip
        position, leaves, depth, is_divergent, rate = plain_nuts(
            x, step_size, inverse_mass, 5, number, max_energy_error=1.5
        )
        assert tree.counts.flatten().tolist() == [leaves, depth]
        assert tree.is_divergent.item() == is_divergent
        torch.testing.assert_close(tree.drawn[1, 0, 0], position)
        assert tree.weights[3].item() / leaves == pytest.approx(rate)
        seen.add((depth, is_divergent))
    assert len(seen) > 2  # of several depths, or some of them divergent


SHAPES = ((0, 3), (4, 0), (1, 1), (7, 33), (64, 2), (3, 2, 5), (2, 20001))


def inverse_masses(kind, x):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return {
        "number": 0.7,
        "chains": torch.linspace(0.5, 1.5, len(x), dtype=wide, device=x.device),
        "diagonal": 0.5 + torch.rand(1, *x.shape[1:], dtype=wide, device=x.device),
    }[kind]


@pytest.mark.parametrize(
    ("shape", "kind", "dtype"),
    [
        *itertools.product(SHAPES, ["number", "chains", "diagonal"], [torch.float32]),
        *itertools.product(SHAPES, ["diagonal"], [t for t in DTYPES if t != torch.float32]),
    ],
    ids=str,
)
def test_it_matches_the_reference(shape, kind, dtype, device):
    """Each leaf by itself, from the same tree: roundings would lead two of them apart."""
    x = normal(*shape, device=device).to(dtype)
    inverse_mass = inverse_masses(kind, x)
    size = 0.3 if math.prod(shape) < 20000 else 0.02
    step = size if kind == "number" else torch.full((len(x),), size, device=device)
    ours = nuts_tree(x, *quartic(x), step, inverse_mass, max_tree_depth=4, key=key(1, device))
    ours.checkpoints.fill_(torch.nan)  # none is used before it is written
    for leaf in range(15):
        expected = copy(ours)
        energy, grad = quartic(ours.position)
        if leaf == 4 and len(x) > 2:
            energy[1] = torch.inf
            grad[2] = torch.nan
        options = {"key": key(1, device), "first_chain": 5}
        nuts_leaf_(ours, energy, grad, leaf, step, inverse_mass, **options)
        with backend("reference"):
            nuts_leaf_(expected, energy, grad, leaf, step, inverse_mass, **options)
        for one, other, field in zip(ours, expected, ours._fields, strict=True):
            tolerance = dict(TOLERANCE.get(one.dtype, {"rtol": 0.0, "atol": 0.0}))
            if field == "weights":  # differences of energies, of momenta in the dtype of x
                tolerance = dict.fromkeys(tolerance, TOLERANCE[dtype]["rtol"])
                tolerance["atol"] *= 1 + energy.nan_to_num(posinf=0.0).abs().sum().item()
            torch.testing.assert_close(one, other, equal_nan=True, **tolerance)
    if math.prod(shape) in (128, 231):
        assert (ours.counts[1] > 2).any()


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_a_part_of_the_chains_grows_as_in_the_whole(cut, device):
    x = normal(9, 5, device=device)
    options = {"max_tree_depth": 5, "number": key(4, device)}
    whole = grown(x, 0.2, **options)
    assert len(set(whole.counts[1].tolist())) > 1
    for first, last in ((0, cut), (cut, 9)):
        part = grown(x[first:last], 0.2, first_chain=first, **options)
        assert torch.equal(part.drawn[1], whole.drawn[1][:, first:last])
        assert torch.equal(part.counts, whole.counts[:, first:last])
        assert torch.equal(part.position, part.drawn[1, 0])  # where all of them rest


def test_stopped_chains_are_left_alone(device):
    x = normal(200, 2, device=device)
    tree = nuts_tree(x, *quartic(x), 0.4, max_tree_depth=4, key=key(2, device))
    for leaf in range(15):
        before, stopped = copy(tree), ~tree.is_running
        grow(tree, leaf, 0.4, key=key(2, device))
        for one, other in zip(tree, before, strict=True):
            chains = (slice(None),) * (one.dim() - x.dim() if one.dim() >= x.dim() + 1 else 1)
            if one.shape == x.shape:
                chains = ()
            torch.testing.assert_close(
                one[(*chains, stopped)], other[(*chains, stopped)], rtol=0, atol=0, equal_nan=True
            )
    assert not tree.is_running.any()
    assert torch.equal(tree.position, tree.drawn[1, 0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["energy", "grad"])
def test_leaves_that_are_not_finite_end_the_trajectory(bad, where, device):
    x = normal(50, 3, device=device)
    for name, leaf in itertools.product(("native", "reference"), (0, 2, 5)):
        tree = nuts_tree(x, *quartic(x), 0.05, max_tree_depth=4, key=key(1, device))
        for number in range(leaf):
            grow(tree, number, 0.05, key=key(1, device))
        running = tree.is_running.clone()
        energy, grad = quartic(tree.position)
        if where == "energy":
            energy.fill_(bad)
        else:
            grad[:, 1] = bad
        before = copy(tree)
        with backend(name):
            nuts_leaf_(tree, energy, grad, leaf, 0.05, key=key(1, device))
        assert running.any()
        assert not tree.is_running.any()
        assert torch.equal(tree.is_divergent, running)
        assert torch.equal(tree.drawn, before.drawn)
        assert torch.equal(tree.position, tree.drawn[1, 0])
        assert torch.equal(tree.weights[3], before.weights[3])


def test_it_is_deterministic_for_any_number_of_threads():
    x, before, results = normal(501, 200), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(grown(x, 0.1, max_tree_depth=4, number=key(3)).drawn)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_opcheck(device):
    x = normal(4, 3, device=device)
    tree = nuts_tree(x, *quartic(x), 0.3, max_tree_depth=3, key=key(1, device))
    torch.library.opcheck(
        torch.ops.gencore.nuts_leaf_.default,
        (*tree, *quartic(tree.position), key(1, device), None, None, 0.3, 1.0, 0, 0, 1000.0),
    )


def test_it_compiles_without_graph_breaks(device):
    x, number = normal(4, 3, device=device), key(1, device)
    tree = nuts_tree(x, *quartic(x), 0.3, max_tree_depth=3, key=number)
    expected = copy(tree)

    def leaf(tree):
        nuts_leaf_(tree, *quartic(tree.position), 0, 0.3, key=number)
        return tree.position

    leaf(expected)
    torch.compiler.reset()
    torch.compile(leaf, fullgraph=True, backend="aot_eager")(tree)
    torch.testing.assert_close(tree.position, expected.position)


def test_it_is_seen_by_autograd():
    x = normal(4, 3)
    tree = nuts_tree(x, *quartic(x), 0.3)
    weight = torch.ones(4, 3, requires_grad=True)
    loss = (weight * tree.position).sum()  # saves it
    with torch.no_grad():
        grow(tree, 0, 0.3, key=key(1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"energy": torch.zeros(3)}, ValueError, r"energy has shape \[3\], expected one entry"),
        ({"energy": torch.zeros(2).double()}, TypeError, "energy is torch.float64"),
        ({"grad": torch.zeros(2, 4)}, ValueError, r"grad has shape \[2, 4\]"),
        ({"leaf": 7}, ValueError, "leaf is 7, but the tree has 7 leaves"),
        ({"leaf": -1}, ValueError, "leaf must not be negative"),
        ({"step_size": -0.1}, ValueError, "step_size must be finite and not negative"),
        ({"inverse_mass": 0.0}, ValueError, "inverse_mass must be finite and positive"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"first_chain": 2**38}, ValueError, "first_chain is 274877906944"),
        ({"max_energy_error": 0.0}, ValueError, "max_energy_error must be positive"),
        ({"grad": torch.zeros(2, 3, requires_grad=True)}, ValueError, "but grad requires grad"),
        ({"flags": torch.ones(2, 2).bool()}, ValueError, r"tree.flags is torch.bool"),
        ({"ends": torch.zeros(6, 2, 3)}, ValueError, "tree.ends is torch.float32"),
        ({"momentum": torch.zeros(3, 2).T}, ValueError, "tree.momentum is not contiguous"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    x = torch.zeros(2, 3)
    tree = nuts_tree(x, x.sum(1), x, 0.1, max_tree_depth=3)
    of_tree = {name: value for name, value in wrong.items() if name in tree._fields}
    arguments = {
        "tree": tree._replace(**of_tree),
        "energy": torch.zeros(2),
        "grad": torch.zeros(2, 3),
        "leaf": 0,
        "step_size": 0.1,
        "key": key(1),
        **{name: value for name, value in wrong.items() if name not in of_tree},
    }
    with pytest.raises(error, match=message) as caught:
        nuts_leaf_(**arguments)
    assert str(caught.value).startswith("nuts_leaf_: ")


@pytest.mark.parametrize("depth", [0, 21])
def test_depths_that_no_tree_has(depth):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=f"nuts_tree: max_tree_depth is {depth}; expected 1"):
        nuts_tree(x, x.sum(1), x, 0.1, max_tree_depth=depth)
