"""Features that a distance between image sets is measured on."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Features", "pixel_features"]

Features: TypeAlias = Callable[[Tensor], Tensor]
"""Maps a batch of images [N, ...] to feature vectors [N, D]."""


def pixel_features(images: Tensor) -> Tensor:
    """Flatten images to vectors of pixels in [0, 1].

    Args:
        images: [N, ...], uint8 (divided by 255) or floating point (taken as it is, so that a
            matrix of features [N, D] passes through unchanged).

    Returns:
        [N, D], floating point.

    Raises:
        TypeError: `images` is neither uint8 nor floating point.
        ValueError: `images` has no batch axis.

    Example:
        >>> pixel_features(torch.full((2, 1, 1, 2), 51, dtype=torch.uint8))
        tensor([[0.2000, 0.2000],
                [0.2000, 0.2000]])
    """
    if images.ndim == 0:
        raise ValueError("pixel_features: images is a scalar, expected [N, ...]")
    if images.dtype == torch.uint8:
        images = images / 255
    elif not images.is_floating_point():
        raise TypeError(
            f"pixel_features: images are {images.dtype}, expected uint8 or floating point"
        )
    return images.flatten(1) if images.ndim > 1 else images[:, None]
