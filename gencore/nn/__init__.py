"""Layers and tools for networks that the models share."""

from gencore.nn.mlp_energy import MLPEnergy
from gencore.nn.stop_gradient import stop_gradient

__all__ = ["MLPEnergy", "stop_gradient"]
