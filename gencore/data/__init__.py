"""Data: images as uint8 tensors, from what the user already has on disk; densities on the plane."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
