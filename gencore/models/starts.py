"""Where samples start: standard normal variables, the same for any split over processes."""

import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Generator, Tensor, nn

from gencore.ops import philox_normal, random_key
from gencore.ops.random import Stream, stream_key

__all__ = ["like", "normal_starts"]


def like(module: nn.Module) -> Tensor:
    """A tensor of the device and the dtype that a module works in: its first parameter, or buffer
    of floating point, or else float32 on the CPU."""
    tensors = chain(module.parameters(), module.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def normal_starts(
    module: nn.Module,
    num: int,
    shape: Sequence[int],
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
    stream: Stream = "start",
) -> Tensor:
    """N(0, 1) variables [num, *shape] on the device and in the dtype of a module.

    Args:
        module: whose samples start here.
        num: number of samples.
        shape: of one start.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset].
        first: number of samples before these. With one key, ``num = a`` and ``num = b`` with
            ``first = a`` are the two parts of ``num = a + b``.
        stream: of the key, by what the variables are for.

    Example:
        >>> import torch
        >>> from gencore.ops import random_key
        >>> model, key = torch.nn.Linear(1, 1), random_key()
        >>> whole = normal_starts(model, 5, (3,), key=key)
        >>> torch.equal(whole[2:], normal_starts(model, 3, (3,), key=key, first=2))
        True
    """
    of = like(module)
    if key is None:
        key = random_key(generator, device=of.device)
    first_element = first * math.prod(shape)
    key = stream_key(key, stream)
    return philox_normal((num, *shape), key, first_element=first_element, dtype=of.dtype)
