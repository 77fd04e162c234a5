"""How the layers of flows are joined."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from gencore.nn import MLP, AffineCoupling, Compose, Permutation, Reversible, Transform
from gencore.nn.affine_start import start_affine

__all__ = ["half_coupling", "interleaved", "shuffle", "stack"]


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


def half_coupling(
    features: int,
    number: int,
    hidden_widths: Sequence[int],
    *,
    context_size: int,
    activation: str = "silu",
    bound: float | None = 2.0,
    additive: bool = False,
) -> AffineCoupling:
    """An affine coupling of the two halves of a vector; even and odd numbers take turns in which
    half they move. A single feature has no other half: it always moves, as the context says or by
    plain parameters.

    Affine ones start as `start_affine` says, with plain parameters at zero; additive ones as the
    identity.
    """
    swap = number % 2 == 1 or features == 1
    moved = features - features // 2 if swap else features // 2
    outputs = moved if additive else 2 * moved
    network = MLP(
        features - moved, hidden_widths, outputs, activation=activation, zero_last=additive,
        context_size=context_size,
    )  # fmt: skip
    if not additive and network.layers:
        last = network.layers[-1]
        assert isinstance(last, nn.Linear)
        start_affine(last, slice(moved, None), slice(moved), features)
    return AffineCoupling(network, swap=swap, bound=bound, additive=additive)
