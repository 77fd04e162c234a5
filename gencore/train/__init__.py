"""Training: recipes, the loop, checkpoints, logs and many devices, on Lightning Fabric."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
