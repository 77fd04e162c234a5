"""Compression of images with models that give exact frequencies of their levels."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
