"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["LikelihoodName", "MixtureCovariance"]

LikelihoodName = Literal["gaussian", "bernoulli"]

MixtureCovariance = Literal["full", "tied", "diagonal", "spherical", "tied_spherical"]
