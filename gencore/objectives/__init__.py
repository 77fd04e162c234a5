"""Losses and bounds as functions of energies and tensors, one file an idea."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
