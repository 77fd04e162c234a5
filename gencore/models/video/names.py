"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["CurvatureOf", "FrameReduction", "LinearizingArchitecture"]

CurvatureOf = Literal["code", "pool"]
FrameReduction = Literal["sum", "mean"]
LinearizingArchitecture = Literal["shallow1", "shallow2", "deep1", "deep2", "deep3", "mlp"]
