"""Autoregressive models: a conditional distribution for each dimension, given those before it."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
