"""Optimal transport between point clouds, as differentiable functions, one file an idea.

Every function returns a *cost*: the mean of ‖x − y‖^p over the pairs that a plan brings together.
The smallest one is W_p^p, the p-th power of the Wasserstein distance; no root is taken, for that of
0 has no gradient.
"""

from gencore.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
