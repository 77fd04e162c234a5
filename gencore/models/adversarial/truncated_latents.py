"""Latents from a normal density without its tails (Brock et al. 2019)."""

import math

import torch
from torch import Generator, Tensor

from gencore.ops import random_key
from gencore.ops._support.checks import check_count, check_key, finite
from gencore.ops.random import philox_uniform
from gencore.sizes import check_positive

__all__ = ["truncated_normal"]


def truncated_normal(
    num: int,
    size: int,
    bound: float,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""Draws from N(0, 1) within ±c, by the inverse of its distribution function.

    .. math:: z = \Phi^{-1}\bigl(\Phi(-c) + u\, (\Phi(c) - \Phi(-c))\bigr), \quad u \sim U[0, 1)

    A generator that was trained with c = ∞ gives better and less various samples for a smaller c.

    Args:
        num: N.
        size: L.
        bound: c; infinite for the whole density.
        generator: draws the key where none is given.
        key: int64 [seed, offset].
        first: number of rows before these, of other processes.
        dtype: float32 or float64.
        device: of the draws, where no key is given.

    Returns:
        [N, L].

    Raises:
        ValueError: for a bound that is not positive, or numbers that are not.

    References:
        Brock, Donahue and Simonyan, "Large scale GAN training for high fidelity natural image
        synthesis", 2019, §3.1.

    Example:
        >>> import torch
        >>> from gencore.models import truncated_normal
        >>> z = truncated_normal(1000, 4, 0.5, key=torch.tensor([0, 0]))
        >>> z.shape, bool((z.abs() <= 0.5).all())
        (torch.Size([1000, 4]), True)
    """
    name = "truncated_normal"
    check_count(name, "num", num, least=0)
    check_count(name, "first", first, least=0)
    check_positive(name, size=size)
    if bound != math.inf and not finite(name, "bound", bound) > 0:
        raise ValueError(f"{name}: bound is {bound}; expected a positive number")
    if key is None:
        key = random_key(generator, device=device)
    check_key(name, key)
    uniform = philox_uniform((num, size), key, first_element=first * size, dtype=dtype)
    # The middles of the intervals of the uniform numbers, so that none is at an end.
    half = (2 * uniform - 1) + 2.0**-24
    z = math.sqrt(2) * torch.erfinv(math.erf(bound / math.sqrt(2)) * half)
    return z.clamp(-bound, bound)
