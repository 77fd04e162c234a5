"""Which units of a masked network may depend on which: of an order, and of a graph."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops.made_inverse_reference import made_masks

__all__ = ["MaskPlan", "graph_plan", "order_plan"]


class MaskPlan(NamedTuple):
    """The masks of a network whose inputs stand in `order`, hidden units by their degree."""

    order: Tensor | None
    """[D]: the inputs from first to last; ``None``: as they come."""
    depth: int
    """The inputs of the longest path, each of which depends on the one before."""
    generations: Tensor
    """[D]: how many inputs the longest path to one has before it, of the inputs in their order."""
    unit_ends: Tensor
    """[L, D]: the units of each hidden layer of degree at most 0, 1, …"""
    masks: list[Tensor]
    """Bool [out, in], from each layer of units to the next."""


def order_plan(
    num_inputs: int,
    widths: Sequence[int],
    outputs: Tensor,
    *,
    has_context: bool,
    order: Sequence[int] | Tensor | None,
) -> MaskPlan:
    """Every input depends on all before it. `outputs` are the inputs that outputs belong to."""
    degrees = [_degrees(num_inputs, width, has_context) for width in widths]
    positions = torch.arange(num_inputs)
    ends = torch.stack([torch.searchsorted(d, positions, right=True) for d in degrees])
    masks = made_masks(ends, widths, outputs)
    if order is not None:
        order = torch.as_tensor(order, dtype=torch.int64)
        if order.dim() != 1 or sorted(order.tolist()) != list(range(num_inputs)):
            raise ValueError(
                f"MADE: {order.tolist()} is not a permutation of 0, …, {num_inputs - 1}"
            )
    return MaskPlan(order, num_inputs, positions, ends, masks)


def graph_plan(
    adjacency: Tensor,
    widths: Sequence[int],
    outputs: Tensor,
    *,
    has_context: bool,
    same_units: bool,
) -> MaskPlan:
    """Input i depends on input j where adjacency[i, j] says so.

    A hidden unit belongs to the set of inputs that some output may see, and a unit may see those
    whose sets are a part of its own. `same_units`: all hidden layers have the units of the first.
    """
    generations = _generations(adjacency)
    order = generations.argsort(stable=True)
    graph = adjacency[order][:, order]
    positions = torch.arange(len(graph))
    # The sets, of the lowest degree first: by the last input of each.
    sets = graph.unique(dim=0)
    if not has_context and bool(sets.any()):
        sets = sets[sets.any(1)]
    degrees = (sets * (positions + 1)).amax(1)
    by_degree = degrees.argsort(stable=True)
    sets, degrees = sets[by_degree], degrees[by_degree]
    layers = [torch.eye(len(graph), dtype=torch.bool)]
    ends = []
    chosen = positions.new_empty(0)
    for layer, width in enumerate(widths):
        if layer == 0 or not same_units:
            reached = torch.arange(len(sets))
            if layer:  # a unit that sees no other would be a constant
                reached = reached[_contains(sets, layers[-1]).any(1)]
            chosen = reached[_spread(width, len(reached))]
        layers.append(sets[chosen])
        ends.append(torch.searchsorted(degrees[chosen], positions, right=True))
    layers.append(graph[outputs])
    masks = [_contains(after, before) for before, after in pairwise(layers)]
    depth = int(generations.max()) + 1
    return MaskPlan(order, depth, generations[order], torch.stack(ends), masks)


def _generations(adjacency: Tensor) -> Tensor:
    """[D]: the longest path to each input, or raise where there is a cycle."""
    generations = torch.zeros(len(adjacency), dtype=torch.int64)
    for _ in range(len(adjacency)):
        behind = torch.where(adjacency, generations + 1, 0).amax(1)
        if torch.equal(behind, generations):
            return generations
        generations = behind
    raise ValueError(
        "MADE: the adjacency has a cycle, a path from an input back to itself; expected one that "
        "is strictly triangular in some order of the inputs"
    )


def _contains(sets: Tensor, parts: Tensor) -> Tensor:
    """Bool [S, P]: which parts [P, D] are subsets of which sets [S, D]."""
    return (~sets).float().matmul(parts.float().t()) == 0


def _degrees(num_inputs: int, width: int, has_context: bool) -> Tensor:
    """A layer's degrees in ascending order: evenly spread, the lowest and the highest among them.

    A layer without the lowest would leave some units without inputs, one without the highest would
    leave some of the layer before without use.
    """
    lowest = 0 if has_context or num_inputs == 1 else 1
    return lowest + _spread(width, num_inputs - lowest)


def _spread(width: int, count: int) -> Tensor:
    """[width]: numbers below count in ascending order, 0 and count − 1 among them."""
    units = torch.arange(width)
    return units * count // width if width >= count else units * (count - 1) // max(width - 1, 1)
