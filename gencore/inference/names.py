"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["ElboEstimator"]

ElboEstimator = Literal["reparametrised", "path", "score"]
