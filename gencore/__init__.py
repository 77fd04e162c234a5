"""Fused C++/CUDA kernels for the inner loops of generative models, and the models built on them."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("gencore")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
