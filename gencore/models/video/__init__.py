"""Models of films: predictors of frames, and codes in which motion is linear."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
