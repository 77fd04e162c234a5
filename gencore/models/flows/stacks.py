"""How the layers of flows are joined."""

from collections.abc import Callable, Iterable
from typing import get_args

import torch

from gencore.choices import check_choice
from gencore.models.flows.names import CouplingMixing
from gencore.models.flows.vector_couplings import Masks
from gencore.nn import Compose, LinearStart, LULinear, Permutation, Reversible, Transform

__all__ = ["coupling_mixing", "interleaved", "stack"]


def stack(layers: Iterable[Transform], *, reversible: bool) -> Compose:
    """Layers one after another; a reversible stack rebuilds its inputs in the backward pass, so
    that memory does not grow with depth."""
    return Reversible(*layers) if reversible else Compose(*layers)


def interleaved(
    num_layers: int,
    layer: Callable[[int], Transform],
    between: Callable[[], Transform],
    *,
    every: int = 1,
) -> list[Transform]:
    """The layers number 0, 1, …, with a transform `between` after every so many but the last."""
    layers: list[Transform] = []
    for i in range(num_layers):
        if i and i % every == 0:
            layers.append(between())
        layers.append(layer(i))
    return layers


def coupling_mixing(
    owner: str,
    mixing: CouplingMixing | None,
    features: int,
    masks: Masks | None,
    generator: torch.Generator | None,
) -> Callable[[], Transform]:
    """What makes the transforms between blocks of two couplings, which move either half: random
    permutations, or linear layers that start as such, as which ``None`` counts without masks.

    Two coordinates keep their places at first: changing them, one would move twice in a row, as one
    coupling can do.
    """
    if mixing is None:
        mixing = "lu" if masks is None else "permutation"
    check_choice(owner, "mixing", mixing, get_args(CouplingMixing))
    if mixing == "lu":
        if masks is not None:
            raise ValueError(f"{owner}: got masks and mixing 'lu'; with masks nothing is mixed")
        start: LinearStart = "identity" if features == 2 else "permutation"
        return lambda: LULinear(features, start=start, generator=generator)
    if features == 2:
        return lambda: Permutation(range(2))
    return lambda: Permutation.random(features, generator)
