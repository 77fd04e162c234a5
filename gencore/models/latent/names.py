"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["BoundEstimator", "ElboEstimator", "LikelihoodName", "MixtureCovariance"]

BoundEstimator = Literal["reparametrised", "doubly_reparametrised"]

ElboEstimator = Literal["reparametrised", "path", "score"]

LikelihoodName = Literal["gaussian", "bernoulli"]

MixtureCovariance = Literal["full", "tied", "diagonal", "spherical", "tied_spherical"]
