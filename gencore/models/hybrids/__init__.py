"""Models made of two kinds: energies that correct a flow or a decoder, flows behind a decoder."""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
