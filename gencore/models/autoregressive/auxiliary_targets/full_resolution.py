"""The image itself, with fewer colours perhaps, as an auxiliary target."""

from collections.abc import Sequence

from torch import Tensor

from gencore.models.autoregressive.auxiliary_targets.auxiliary_target import (
    AuxiliaryTarget,
    in_bins,
)

__all__ = ["FullResolutionTarget"]


class FullResolutionTarget(AuxiliaryTarget):
    """y is x in b values a channel: its levels rounded down to multiples of L/b.

    Args:
        image_shape: [C, H, W] of x and of y.
        levels: L.
        bins: b, a divisor of L; L itself where none is given, so that y = x.

    Raises:
        ValueError: for values that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, figure 3.8.

    Example:
        >>> import torch
        >>> from gencore.models import FullResolutionTarget
        >>> FullResolutionTarget((1, 1, 3), bins=4).target(torch.tensor([[[[0, 63, 255]]]]))
        tensor([[[[  0,   0, 192]]]])
    """

    def __init__(
        self, image_shape: Sequence[int], levels: int = 256, *, bins: int | None = None
    ) -> None:
        super().__init__(image_shape, image_shape, levels, levels if bins is None else bins)

    @property
    def determines_image(self) -> bool:
        return self.bins == self.levels

    def target(self, x: Tensor) -> Tensor:
        return in_bins(x, self.levels, self.bins)
