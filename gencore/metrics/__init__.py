"""How far samples are from the data, on stated features; detection; images; likelihoods; grids."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
