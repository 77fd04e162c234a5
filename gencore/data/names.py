"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["DensityName"]

DensityName = Literal[
    "swiss_roll", "grid9", "eight_gaussians", "twenty_five_gaussians", "pinwheel", "two_moons"
]
