"""Shapes of images, and of a context a pixel, on their way through a multi-scale flow."""

from collections.abc import Sequence
from typing import Any

from torch import Size

from gencore.nn.context import ContextSize, context_shape

__all__ = ["context_options", "squeezed_shapes"]


def squeezed_shapes(model: str, image_shape: Sequence[int], num_levels: int) -> list[Size]:
    """The shape after the squeeze of each level, where half of the channels leave after a level.

    Raises:
        ValueError: for another number of dimensions or levels, or sides that are no multiple of
            2^num_levels.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"{model}: image_shape is {tuple(image_shape)}; expected (C, H, W)")
    channels, height, width = image_shape
    if height % 2**num_levels or width % 2**num_levels:
        raise ValueError(
            f"{model}: images are {height}x{width}; expected multiples of {2**num_levels} for "
            f"{num_levels} levels"
        )
    shapes = []
    for _ in range(num_levels):
        channels, height, width = 4 * channels, height // 2, width // 2
        shapes.append(Size((channels, height, width)))
        channels //= 2
    return shapes


def context_options(
    model: str, context_size: ContextSize, image_shape: Sequence[int], num_squeezes: int
) -> dict[str, Any]:
    """What a coupling's network is told of its context after so many squeezes.

    Raises:
        ValueError: for a context a pixel of other sides than the image.
    """
    shape = context_shape(context_size)
    if len(shape) < 2:
        return {"context_size": context_size}
    if len(shape) != 3 or min(shape) < 1 or shape[1:] != Size(image_shape)[1:]:
        _, height, width = image_shape
        raise ValueError(
            f"{model}: context_size is {tuple(shape)}; expected a number, or (C, {height}, "
            f"{width}), a context for each pixel of the images"
        )
    return {"context_size": shape[0] * 4**num_squeezes, "pixel_context": True}
