"""How autoregressive layers are joined."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.models.flows.names import CoordinateOrder
from gencore.models.flows.stacks import interleaved
from gencore.nn.transforms import Permutation, Transform

__all__ = ["autoregressive_layers"]


def autoregressive_layers(
    owner: str,
    features: int,
    num_layers: int,
    layer: Callable[..., Transform],
    *,
    permutation: CoordinateOrder = "reverse",
    generator: torch.Generator | None = None,
    reversible: bool = False,
    adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> list[Transform]:
    """Layers with a permutation of the coordinates between each and the next.

    There is none where the layers share an adjacency, which speaks of the coordinates as they are.

    Args:
        owner: the name that errors begin with.
        features: D.
        num_layers: K.
        layer: makes one, of the keyword arguments `adjacency`, `dropout` and `options`.
        permutation: "reverse" or "random". Of two coordinates a random one is the reversal too: the
            identity would leave one of them without dependence.
        generator: of random permutations; torch's default if ``None``.
        reversible: whether the stack will rebuild its inputs, which dropout does not allow.
    """
    check_choice(owner, "permutation", permutation, get_args(CoordinateOrder))
    if reversible and dropout > 0:
        raise ValueError(
            f"{owner}: dropout is {dropout} and reversible True; inputs cannot be rebuilt through "
            "dropout"
        )

    def make(_: int) -> Transform:
        return layer(adjacency=adjacency, dropout=dropout, **options)

    if adjacency is not None:
        return list(map(make, range(num_layers)))

    def between() -> Permutation:
        if permutation == "random" and features > 2:
            return Permutation.random(features, generator)
        return Permutation.reverse(features)

    return interleaved(num_layers, make, between)
