"""The primary visual cortex: simple cells, whose vectors motion rotates, and motion energy."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
