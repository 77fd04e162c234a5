"""Models of words: captions of images, and vectors of words."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
