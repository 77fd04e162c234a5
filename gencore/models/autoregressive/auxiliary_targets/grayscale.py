"""The image without colours as an auxiliary target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.models.autoregressive.auxiliary_targets.auxiliary_target import (
    AuxiliaryTarget,
    in_bins,
)

__all__ = ["LUMA", "GrayscaleTarget", "luma"]

LUMA = (299, 587, 114)
"""Thousandths of red, green and blue in a grey level (ITU-R BT.601)."""


class GrayscaleTarget(AuxiliaryTarget):
    """y is the luma of x in b values: 0.299 red + 0.587 green + 0.114 blue, rounded to a level and
    then down to a multiple of L/b. Of an image of one channel it is that channel.

    Args:
        image_shape: [C, H, W] of x, with C = 1 or 3.
        levels: L.
        bins: b, a divisor of L; 4 bits in the thesis.

    Raises:
        ValueError: for another number of channels, or bins that do not divide the levels.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, section 3.4.5.
        Kolesnikov and Lampert, "PixelCNN models with auxiliary variables for natural image
        modeling", 2017, section 3.2.

    Example:
        >>> import torch
        >>> from gencore.models import GrayscaleTarget
        >>> x = torch.tensor([255, 0, 0]).view(1, 3, 1, 1)
        >>> GrayscaleTarget((3, 1, 1)).target(x)  # 76.2 in steps of 16
        tensor([[[[64]]]])
    """

    def __init__(self, image_shape: Sequence[int], levels: int = 256, *, bins: int = 16) -> None:
        if image_shape[0] not in (1, 3):
            raise ValueError(
                f"GrayscaleTarget: image_shape is {tuple(image_shape)}; expected 1 or 3 channels"
            )
        super().__init__(image_shape, (1, *image_shape[1:]), levels, bins)

    @property
    def determines_image(self) -> bool:
        return self.image_shape[0] == 1 and self.bins == self.levels

    def target(self, x: Tensor) -> Tensor:
        return in_bins(luma(x), self.levels, self.bins)


def luma(x: Tensor) -> Tensor:
    """Grey levels [N, 1, H, W] of levels [N, 1 or 3, H, W], in their dtype."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
    # In integers, so that halves are rounded up alike everywhere.
    return (((x.to(torch.int64) * weights).sum(1, keepdim=True) + 500) // 1000).to(x.dtype)
