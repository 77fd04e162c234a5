"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["FrameBoundary", "MotionMatrices"]

FrameBoundary = Literal["zeros", "circular"]
MotionMatrices = Literal["table", "taylor", "rotation"]
