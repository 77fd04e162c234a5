"""Images of which some values are replaced by noise, which a background model trains on."""

import math

import torch
from torch import Generator, Tensor

from gencore.ops import philox_words, random_key
from gencore.ops._support.checks import index
from gencore.ops.random import philox_uniform, stream_key

__all__ = ["mutate_pixels"]


def mutate_pixels(
    images: Tensor,
    rate: float,
    *,
    levels: int = 256,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Replace each value of images, with probability μ, by one uniform on the L levels.

    The uniform value may be the one that was there: values change with probability μ(L − 1)/L. What
    is left of an image's meaning falls with μ, and what single values are like stays: a model of
    such images knows the background (:func:`gencore.metrics.likelihood_ratio_score`).

    Args:
        images: integers [N, ...] from 0 to L − 1, with N ≥ 0.
        rate: μ, from 0 to 1; between 0.1 and 0.3 in the source.
        levels: L.
        generator: draws the key where none is given; torch's default of the device where both are
            missing.
        key: int64 [seed, offset].
        first: number of images before these, so that a part of a batch is that of the whole.

    Returns:
        Integers of the same dtype and shape; `images` is not changed.

    Raises:
        TypeError: images are no integers.
        ValueError: for a rate that is no probability, or levels that the dtype does not hold.

    Source:
        Ren et al., "Likelihood Ratios for Out-of-Distribution Detection", 2019, §4. Yan, "Deep
        Generative Models: Design, Improvements and Applications", 2022, §4.2.6.

    Example:
        >>> images = torch.zeros(50, 1, 28, 28, dtype=torch.uint8)
        >>> round((mutate_pixels(images, 0.3) > 0).double().mean().item(), 1)
        0.3
    """
    if images.is_floating_point() or images.is_complex() or images.dtype == torch.bool:
        raise TypeError(f"mutate_pixels: images are {images.dtype}; expected integers")
    if not 0 <= rate <= 1:
        raise ValueError(f"mutate_pixels: rate is {rate}; expected a number from 0 to 1")
    levels = index("mutate_pixels", "levels", levels)
    first = index("mutate_pixels", "first", first)
    if images.dim() == 0 or not 2 <= levels <= torch.iinfo(images.dtype).max + 1:
        raise ValueError(
            f"mutate_pixels: {levels} levels of images {list(images.shape)} of {images.dtype}; "
            "expected [N, ...] of a type that holds the highest level"
        )
    key = random_key(generator, device=images.device) if key is None else key
    place = first * math.prod(images.shape[1:])
    replaced = philox_uniform(images.shape, key, first_element=place) < rate
    words = philox_words(images.shape, stream_key(key, "samples"), first_element=place)
    # Of words [0, 2³²) each level has as many as another, but for one word.
    values = words * levels >> 32
    return torch.where(replaced, values.to(images.dtype), images)
