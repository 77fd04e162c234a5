"""Images without content, which no model of real images should take for its data."""

import math
from collections.abc import Sequence

from torch import Generator, Tensor, uint8

from gencore.ops import philox_words, random_key
from gencore.ops._support.checks import index

__all__ = ["constant_images", "noise_images"]


def noise_images(
    num: int,
    image_shape: Sequence[int],
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Images whose values are independent and uniform on 0, …, 255.

    Args:
        num: number of images N.
        image_shape: [C, H, W].
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset].
        first: number of images before these. An image is a function of its number and of the key.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        TypeError, ValueError: for a number or a shape that is none.

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §4.2.6.

    Example:
        >>> images = noise_images(100, (1, 28, 28))
        >>> images.shape, round(images.double().mean().item() / 255, 1)
        (torch.Size([100, 1, 28, 28]), 0.5)
    """
    return _uniform("noise_images", num, image_shape, image_shape, generator, key, first)


def constant_images(
    num: int,
    image_shape: Sequence[int],
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Images of one value a channel, each uniform on 0, …, 255; arguments, result and errors as of
    `noise_images`.

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §4.2.6.

    Example:
        >>> images = constant_images(100, (3, 8, 8))
        >>> images.shape, images.double().var((2, 3)).max().item()
        (torch.Size([100, 3, 8, 8]), 0.0)
    """
    drawn = (*image_shape[:1], 1, 1)
    values = _uniform("constant_images", num, image_shape, drawn, generator, key, first)
    return values.expand(num, *image_shape).contiguous()


def _uniform(
    owner: str,
    num: int,
    image_shape: Sequence[int],
    drawn: Sequence[int],
    generator: Generator | None,
    key: Tensor | None,
    first: int,
) -> Tensor:
    """Uniform values uint8 [N, *drawn], image by image."""
    num, first = index(owner, "num", num), index(owner, "first", first)
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"{owner}: image_shape is {tuple(image_shape)}; expected [C, H, W]")
    key = random_key(generator) if key is None else key
    words = philox_words((num, *drawn), key, first_element=first * math.prod(drawn))
    return (words >> 24).to(uint8)
