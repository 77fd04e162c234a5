"""Fused C++/CUDA kernels for the inner loops of generative models, and the models built on them."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("gencore")
