"""How autoregressive layers are joined."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.models.flows.names import AutoregressiveMixing
from gencore.models.flows.stacks import interleaved
from gencore.nn.transforms import LULinear, Permutation, Transform

__all__ = ["autoregressive_layers"]


def autoregressive_layers(
    owner: str,
    features: int,
    num_layers: int,
    layer: Callable[..., Transform],
    *,
    mixing: AutoregressiveMixing | None,
    generator: torch.Generator | None = None,
    adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
    **options: Any,
) -> list[Transform]:
    """Layers with a mixing of the coordinates between each and the next.

    There is none where the layers share an adjacency, which speaks of the coordinates as they are.

    Args:
        owner: the name that errors begin with.
        features: D.
        num_layers: K.
        layer: makes one, of the keyword arguments `adjacency` and `options`.
        mixing: "reverse", random "permutation"s, or "lu", linear layers that start as the reversal,
            as which ``None`` counts without an adjacency.
            Of two coordinates a random permutation is the reversal too: the identity would leave
            one of them without dependence.
        generator: of random permutations; torch's default if ``None``.
    """
    if mixing is None:
        mixing = "lu" if adjacency is None else "reverse"
    check_choice(owner, "mixing", mixing, get_args(AutoregressiveMixing))

    def make(_: int) -> Transform:
        return layer(adjacency=adjacency, **options)

    if adjacency is not None:
        if mixing == "lu":
            raise ValueError(
                f"{owner}: got an adjacency and mixing 'lu'; with an adjacency nothing is mixed"
            )
        return list(map(make, range(num_layers)))

    def between() -> Transform:
        if mixing == "lu":
            return LULinear(features, start="reverse")
        if mixing == "permutation" and features > 2:
            return Permutation.random(features, generator)
        return Permutation.reverse(features)

    return interleaved(num_layers, make, between)
