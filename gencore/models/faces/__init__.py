"""Models of faces: a morphable mesh, and images that key points set in motion."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
