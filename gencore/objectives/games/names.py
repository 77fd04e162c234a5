"""Names that the options of adversarial games choose between, without torch."""

from typing import Literal

__all__ = ["FDivergenceGenerator", "FDivergenceName", "GameName", "GeneratorLossKind"]

GameName = Literal["logistic", "hinge", "least-squares", "wasserstein", "energy", "f-divergence"]

GeneratorLossKind = Literal["combined", "non-saturating", "saturating"]

FDivergenceGenerator = Literal["non-saturating", "saturating"]

FDivergenceName = Literal[
    "kl", "reverse-kl", "pearson", "jensen-shannon", "squared-hellinger", "total-variation"
]
