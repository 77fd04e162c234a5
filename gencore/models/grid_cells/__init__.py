"""Grid cells: vectors of places, what steps do to them, and what place cells read of them."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
