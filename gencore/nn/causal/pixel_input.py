"""What networks see of the levels of pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive

__all__ = ["PixelInput"]


class PixelInput(nn.Module):
    """Levels as numbers: a row of a table for each level of each channel.

    The table is 2v/(L − 1) − 1 for a level v of L, which has an order; or it is learned, for codes,
    which have none. A last channel of ones tells the image from the zeros around it.

    Args:
        channels: C of the image.
        levels: L.
        embedding: learned numbers a level; without it the level itself, from −1 to 1.
        border: whether a channel of ones is added.

    Attributes:
        channels, levels, border: as given.
        embedding: the learned table, if there is one.
        out_channels: C times the numbers a level, and one more with a border.

    Raises:
        ValueError: for sizes that are not positive, or a single level.

    Example:
        >>> import torch
        >>> from gencore.nn import PixelInput
        >>> PixelInput(1, 3)(torch.tensor([[[[0, 1, 2]]]]))
        tensor([[[[-1.,  0.,  1.]]]])
    """

    _kind: Tensor

    def __init__(
        self, channels: int, levels: int, *, embedding: int | None = None, border: bool = False
    ) -> None:
        super().__init__()
        check_positive("PixelInput", channels=channels, levels=levels - 1, embedding=embedding or 1)
        self.channels = channels
        self.levels = levels
        self.border = border
        self.embedding = None if embedding is None else nn.Embedding(levels, embedding)
        self.out_channels = channels * (embedding or 1) + border
        # Of no element: it knows the network's dtype.
        self.register_buffer("_kind", torch.empty(0), persistent=False)

    def table(self) -> Tensor:
        """The numbers [L, E] of each level."""
        if self.embedding is not None:
            return self.embedding.weight
        return self._scaled(torch.arange(self.levels, device=self._kind.device)).unsqueeze(1)

    def _scaled(self, x: Tensor) -> Tensor:
        return x.to(self._kind.dtype) * (2 / (self.levels - 1)) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, out_channels, H, W] of levels [N, C, H, W], uint8 or int64."""
        if self.embedding is None:
            y = self._scaled(x)
        else:
            y = self.embedding(x.long()).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return functional.pad(y, (0, 0, 0, 0, 0, 1), value=1.0) if self.border else y
