"""Representations that are learned without labels: of what changes slowly, of where things are."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
