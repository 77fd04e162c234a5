"""How the layers of flows are joined."""

from collections.abc import Callable, Iterable, Sequence

from gencore.nn import MLP, AffineCoupling, Compose, Reversible, Transform

__all__ = ["half_coupling", "interleaved", "stack"]


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


def half_coupling(
    features: int,
    number: int,
    hidden_widths: Sequence[int],
    *,
    context_size: int,
    bound: float | None = 2.0,
    additive: bool = False,
) -> AffineCoupling:
    """An affine coupling of the two halves of a vector; even and odd numbers take turns in which
    half they move. A single feature has no other half: it always moves, as the context says or by
    plain parameters."""
    swap = number % 2 == 1 or features == 1
    moved = features - features // 2 if swap else features // 2
    outputs = moved if additive else 2 * moved
    network = MLP(features - moved, hidden_widths, outputs, context_size=context_size)
    return AffineCoupling(network, swap=swap, bound=bound, additive=additive)
