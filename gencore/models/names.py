"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["CouplingKind", "FlowObjective"]

CouplingKind = Literal["affine", "additive"]

FlowObjective = Literal["ml", "ml+gen", "flow_mle"]
