"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["RegretOf"]

RegretOf = Literal["latents", "encoder", "decoder", "both"]
