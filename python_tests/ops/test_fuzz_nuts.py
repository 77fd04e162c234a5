"""Trees of the No-U-Turn sampler over shapes, memory and values of any kind."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import DTYPES, build, fuzz, keys, memories, shapes
from torch import Tensor

from gencore.ops import NutsTree, nuts_leaf_, nuts_tree


@st.composite
def trees(draw):
    """A state, and an energy and a gradient for each of seven leaves, whatever these are."""
    shape, dtype = draw(shapes.filter(len)), draw(st.sampled_from(DTYPES))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    leaves = draw(st.integers(1, 7))
    return {
        "x": draw(memories(shape, dtype)),
        "step_size": draw(st.sampled_from([0.0, 1e-3, 0.5, 1e30])),
        "key": draw(keys()),
        "leaves": leaves,
        **{f"energy {leaf}": draw(memories(shape[:1], wide)) for leaf in range(leaves)},
        **{f"grad {leaf}": draw(memories(shape, dtype)) for leaf in range(leaves)},
    }


def grow(case: dict[str, Any], rows: slice) -> NutsTree:
    x: Tensor = case["x"][rows].nan_to_num(posinf=1.0, neginf=-1.0).clamp(-1e3, 1e3)
    first, size = rows.start, x[0].numel() if len(x) else 0
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    how = {"step_size": case["step_size"], "key": case["key"]}
    tree = nuts_tree(
        x, torch.zeros(len(x), dtype=wide), x, max_tree_depth=3, first_element=first * size, **how
    )
    tree.checkpoints.zero_()
    for leaf in range(case["leaves"]):
        energy, grad = case[f"energy {leaf}"][rows], case[f"grad {leaf}"][rows]
        nuts_leaf_(tree, energy, grad, leaf, first_chain=first, **how)
        assert tree.drawn[1].isfinite().all()
        assert tree.energies[1].isfinite().all()
        assert torch.equal(tree.position[~tree.is_running], tree.drawn[1, 0][~tree.is_running])
    return tree


@fuzz(60)
@given(st.data(), trees())
def test_trees_draw_what_is_finite_and_do_not_depend_on_the_batch(device, data, arguments):
    case = build(arguments, device)
    chains = len(case["x"])
    cut = data.draw(st.integers(0, chains))
    whole = grow(case, slice(0, chains))
    for rows in (slice(0, cut), slice(cut, chains)):
        part = grow(case, rows)
        assert torch.equal(part.drawn[1], whole.drawn[1][:, rows])
        assert torch.equal(part.counts, whole.counts[:, rows])
        assert torch.equal(part.flags, whole.flags[:, rows])
