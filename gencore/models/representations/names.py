"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["PatchColour"]

PatchColour = Literal["keep", "project", "drop"]
