"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["LikelihoodName"]

LikelihoodName = Literal["gaussian", "bernoulli"]
