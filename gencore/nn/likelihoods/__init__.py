"""Likelihoods of discrete pixels: what an autoregressive network's last layer gives."""

from gencore.nn.likelihoods.categorical import Categorical
from gencore.nn.likelihoods.discretized_logistic import DiscretizedLogistic
from gencore.nn.likelihoods.logistic_mixture import DiscretizedLogisticMixture
from gencore.nn.likelihoods.pixel_likelihood import DrawSpec, PixelLikelihood
from gencore.nn.likelihoods.quantized_logistic import QuantizedLogistic

__all__ = [
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DrawSpec",
    "PixelLikelihood",
    "QuantizedLogistic",
]
