"""Models that undo the steps of a diffusion: chains of conditional energies, denoising networks."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
