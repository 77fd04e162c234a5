"""How the layers of flows are joined."""

from collections.abc import Callable, Iterable

import torch

from gencore.nn import Compose, Permutation, Reversible, Transform

__all__ = ["interleaved", "shuffle", "stack"]


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


def shuffle(features: int, generator: torch.Generator | None) -> Permutation:
    """A random permutation between blocks of two couplings, which move either half.

    Two coordinates stay: changing places, one would move twice in a row, as one coupling can do.
    """
    return Permutation(range(2)) if features == 2 else Permutation.random(features, generator)
