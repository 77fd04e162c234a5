"""The image in a lower resolution as an auxiliary target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.models.autoregressive.auxiliary_targets.auxiliary_target import AuxiliaryTarget
from gencore.sizes import check_whole

__all__ = ["DownSampledTarget"]


class DownSampledTarget(AuxiliaryTarget):
    """y is x with sides r times smaller: the mean of r × r pixels, rounded to a level.

    Args:
        image_shape: [C, H, W] of x.
        factor: r, a divisor of H and W. The thesis has 2 and 4.
        levels: L.

    Raises:
        ValueError: for sides that r does not divide, or a number of levels that there is not.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, section 3.4.5.

    Example:
        >>> import torch
        >>> from gencore.models import DownSampledTarget
        >>> DownSampledTarget((1, 2, 2), 2).target(torch.tensor([[[[0, 1], [1, 1]]]]))
        tensor([[[[1]]]])
    """

    def __init__(self, image_shape: Sequence[int], factor: int, levels: int = 256) -> None:
        check_whole("DownSampledTarget", image_shape=image_shape, factor=factor)
        channels, height, width = image_shape
        if factor < 1 or height % factor or width % factor:
            raise ValueError(
                f"DownSampledTarget: factor is {factor}; expected a divisor of the sides "
                f"{height} and {width}"
            )
        super().__init__(image_shape, (channels, height // factor, width // factor), levels, levels)
        self.factor = factor

    @property
    def determines_image(self) -> bool:
        return self.factor == 1

    def target(self, x: Tensor) -> Tensor:
        area = self.factor**2
        blocks = x.to(torch.int64).unflatten(2, (-1, self.factor)).unflatten(4, (-1, self.factor))
        # In integers, so that halves are rounded up alike everywhere.
        return ((2 * blocks.sum((3, 5)) + area) // (2 * area)).to(x.dtype)
