"""What a causal network does at a pixel, as a list of steps on maps of features."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from torch import Tensor

__all__ = ["FeatureMap", "Kind", "Part", "Step", "Steps", "Term"]

Schedule = Literal["given", "row", "pixel"]
"""When features are there: from the start; of a whole row, before its first pixel; or of a pixel,
when all before it are known."""


class Kind(IntEnum):
    """What a step does; in the order of PlanKind in csrc/arguments/pixel_plan.h."""

    CONVOLUTION = 0
    COPY = 1
    SCALE = 2
    RELU = 3
    ELU = 4
    TANH = 5
    SIGMOID = 6
    ADD = 7
    MULTIPLY = 8


@dataclass
class FeatureMap:
    """Features of one resolution, 2^−shift of the image's, or −1 for what is the same everywhere;
    given ones have their values [N, K, h, w]."""

    channels: int
    shift: int
    schedule: Schedule
    values: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """Successive channels of a map."""

    map: int
    first: int
    count: int


@dataclass(frozen=True)
class Term:
    """A tap of a convolution: weights [channels of the part, outputs] at a place from the pixel."""

    part: Part
    down: int
    right: int
    weight: Tensor


@dataclass
class Step:
    """One operation, at the pixels whose row and column modulo `modulus` are `row`, `column`.

    `list` 0 runs along the row, list 1 + c before channel c of the pixel is known.
    """

    name: str
    kind: Kind
    list: int
    to: Part
    operands: tuple[Part, ...] = ()
    terms: tuple[Term, ...] = ()
    bias: Tensor | None = None
    number: float = 1.0
    modulus: int = 1
    row: int = 0
    column: int = 0


@dataclass
class Steps:
    """A network: its maps, its steps in order, and where the first and the last features are.

    Attributes:
        maps: the features.
        steps: in an order that can be followed.
        input: number of the map of the image.
        table: what the network sees [L, E] of a level.
        output: the parameters of the pixel.
        named: name of an operation of the network → the parts that hold its result.
    """

    maps: list[FeatureMap] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    input: int = -1
    table: Tensor | None = None
    output: Part | None = None
    named: dict[str, tuple[Part, ...]] = field(default_factory=dict)

    @property
    def given(self) -> list[Tensor]:
        """The values [N, K, h, w] of the maps that do not depend on the image, in their order."""
        return [features.values for features in self.maps if features.values is not None]
