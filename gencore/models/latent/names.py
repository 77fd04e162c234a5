"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["BoundEstimator", "LikelihoodName", "MixtureCovariance", "RegretOf"]

BoundEstimator = Literal["reparametrised", "doubly_reparametrised"]

LikelihoodName = Literal["gaussian", "bernoulli"]

MixtureCovariance = Literal["full", "tied", "diagonal", "spherical", "tied_spherical"]

RegretOf = Literal["latents", "encoder", "decoder", "both"]
