"""Shapes of images on their way through a multi-scale flow."""

from collections.abc import Sequence

from torch import Size

__all__ = ["squeezed_shapes"]


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
