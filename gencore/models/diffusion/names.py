"""The choices of diffusion models, read by options without torch."""

from typing import Literal

__all__ = ["DiffusionLoss", "Prediction", "ReverseVariance"]

Prediction = Literal["noise", "start", "mean"]
DiffusionLoss = Literal["simple", "bound"]
ReverseVariance = Literal["step", "posterior", "learned"]
