"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["DecodeBy", "GridTransformName"]

DecodeBy = Literal["readout", "code"]
"""What decodes a vector v: the place cell that answers most, ⟨v, u(x')⟩, or the place whose own
vector is nearest, ⟨v, v(x')⟩."""

GridTransformName = Literal["lie", "network"]
"""What a step does to vectors: rotations of a Lie group, or a network."""
