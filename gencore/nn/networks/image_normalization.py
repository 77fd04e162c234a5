"""The normalisations that networks of images choose between."""

from typing import Literal

from torch import nn

__all__ = ["ImageNormalization", "normalization_layers"]

ImageNormalization = Literal["none", "batch", "instance"]


def normalization_layers(kind: ImageNormalization, channels: int) -> list[nn.Module]:
    """The layer of a kind, for features [N, C, H, W], or none.

    That of instances has no factors, and needs more than one pixel.
    """
    if kind == "none":
        return []
    return [nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels)]
