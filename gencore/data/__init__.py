"""Image data sets as uint8 tensors, read from what the user already has on disk."""

from gencore.data.images import ImageDataset, load_images
from gencore.data.pixels import to_float, to_uint8

__all__ = ["ImageDataset", "load_images", "to_float", "to_uint8"]
