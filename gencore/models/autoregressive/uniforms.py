"""Uniform numbers of the rows of a batch."""

from torch import Tensor

from gencore.ops.random import philox_uniform

__all__ = ["uniforms"]


def uniforms(num: int, size: int, key: Tensor, *, first: int = 0) -> Tensor:
    """Uniform numbers [num, size] in [0, 1), float32, of the rows from `first` on of a stream."""
    return philox_uniform((num, size), key, first_element=first * size)
