"""Layers and tools for networks that the models share."""

from gencore.nn.stop_gradient import stop_gradient

__all__ = ["stop_gradient"]
