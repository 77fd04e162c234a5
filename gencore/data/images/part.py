"""What the reader of an image source gives back."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["ImagePart"]


class ImagePart(NamedTuple):
    """The images of one part of a data set."""

    images: Tensor
    """uint8 [N, C, H, W]."""

    labels: Tensor | None = None
    """Class of each image, int64 [N], or None."""

    class_names: tuple[str, ...] | None = None
    """Name of each class, in the order of the labels, or None."""
