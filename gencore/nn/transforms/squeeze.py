"""Trading image size for channels, as a transform."""

from torch import Tensor

from gencore.nn.transforms.base import Transform, no_log_det
from gencore.ops import squeeze2d, unsqueeze2d

__all__ = ["Squeeze"]


class Squeeze(Transform):
    """[N, C, H, W] → [N, f²C, H/f, W/f]: each f×f block becomes f² channels; preserves volume.

    A context a pixel, [N, C', H, W], is squeezed alike for the transforms that follow in a
    `Compose`: nothing of it is lost, and it stays beside the pixels that it belongs to.

    Args:
        factor: f, at least 1.

    Raises:
        ValueError: for another factor, and on a call for sides that are no multiples of it.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, §3.6.

    Example:
        >>> import torch
        >>> from gencore.nn import Squeeze
        >>> Squeeze()(torch.arange(4.0).view(1, 1, 2, 2))[0].flatten()
        tensor([0., 1., 2., 3.])
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"Squeeze: factor is {factor}; expected at least 1")
        self.factor = factor

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return squeeze2d(x, self.factor), no_log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return unsqueeze2d(z, self.factor), no_log_det(z)

    def carry(self, context: Tensor | None, *, back: bool = False) -> Tensor | None:
        if context is None or context.dim() != 4:
            return context
        return (unsqueeze2d if back else squeeze2d)(context, self.factor)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"
