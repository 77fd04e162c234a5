"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["RegionFeedback", "RegionKind"]

RegionFeedback = Literal["marginal", "conditional", "none"]
RegionKind = Literal["none", "grid", "transformer", "windows"]
