"""The games of a discriminator and a generator, as losses of the discriminator's scores."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
