"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["FlowObjective", "MultiGridName"]

FlowObjective = Literal["ml", "ml+gen", "flow_mle"]

MultiGridName = Literal["gao2021", "small32", "small16", "small8"]
