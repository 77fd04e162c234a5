"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["FlowObjective"]

FlowObjective = Literal["ml", "ml+gen", "flow_mle"]
