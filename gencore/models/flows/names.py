"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["CouplingKind"]

CouplingKind = Literal["affine", "additive", "spline"]
