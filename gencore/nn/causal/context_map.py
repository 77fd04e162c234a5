"""The context of networks on images: a vector an image, or one a pixel."""

import torch
from torch import Tensor, nn

from gencore.nn.context import check_context_dtype, check_context_is_tensor
from gencore.sizes import check_whole

__all__ = ["ContextMap"]


class ContextMap(nn.Module):
    """A context [N, K] or [N, K, H, W] as a map that is added to features after a convolution.

    Vectors become maps of a single pixel, which stands for all.

    Args:
        owner: the name that errors begin with.
        channels: K; 0 where the network takes no context.
        sides: H and W.

    Attributes:
        owner, channels, sides: as given.

    Example:
        >>> import torch
        >>> from gencore.nn import ContextMap
        >>> ContextMap("PixelCNN", 10, (8, 8))(torch.zeros(3, 10)).shape
        torch.Size([3, 10, 1, 1])
    """

    _kind: Tensor

    def __init__(self, owner: str, channels: int, sides: tuple[int, int]) -> None:
        super().__init__()
        check_whole(owner, context_channels=channels)
        if channels < 0:
            raise ValueError(f"{owner}: context_channels is {channels}; expected at least 0")
        self.owner = owner
        self.channels = channels
        self.sides = (sides[0], sides[1])
        # Of no element: it knows the network's dtype.
        self.register_buffer("_kind", torch.empty(0), persistent=False)

    def forward(self, context: Tensor | None) -> Tensor | None:
        """[N, K, H, W], [N, K, 1, 1] or ``None``.

        Raises:
            TypeError: for a context that is no tensor of floating point, or more precise than the
                network.
            ValueError: for one that is missing, not needed, or of another shape.
        """
        if not self.channels:
            if context is not None:
                raise ValueError(f"{self.owner}: got a context, but context_channels is 0")
            return None
        if context is None:
            height, width = self.sides
            raise ValueError(
                f"{self.owner}: expected a context [N, {self.channels}] or "
                f"[N, {self.channels}, {height}, {width}], got none"
            )
        return _as_map(context, self.owner, self.channels, self.sides, self._kind)


# The shape of the context decides here; to `torch.fx` the function is a single operation.
@torch.fx.wrap
def _as_map(
    context: Tensor, owner: str, channels: int, sides: tuple[int, int], kind: Tensor
) -> Tensor:
    check_context_is_tensor(owner, context)
    height, width = sides
    num = len(context) if context.dim() else 0
    if context.shape not in ((num, channels), (num, channels, height, width)):
        raise ValueError(
            f"{owner}: the context has shape {list(context.shape)}; expected [N, {channels}] or "
            f"[N, {channels}, {height}, {width}]"
        )
    check_context_dtype(owner, context, kind)
    return context[:, :, None, None] if context.dim() == 2 else context
