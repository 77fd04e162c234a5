"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["CoordinateOrder", "CouplingKind"]

CouplingKind = Literal["affine", "additive"]
CoordinateOrder = Literal["reverse", "random"]
