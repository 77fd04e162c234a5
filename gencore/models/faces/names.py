"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["ReenactmentScale"]

ReenactmentScale = Literal["driving", "source", "relative"]
