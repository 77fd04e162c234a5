"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["AutoregressiveMixing", "CouplingKind", "CouplingMixing"]

AutoregressiveMixing = Literal["reverse", "permutation", "lu"]
CouplingKind = Literal["affine", "additive", "spline"]
CouplingMixing = Literal["permutation", "lu"]
