"""Features of several depths of one network."""

from torch import Tensor, nn

__all__ = ["BottomUp"]


class BottomUp(nn.Module):
    """Networks one after another, whose outputs are all kept: the deepest first, as a hierarchy of
    latents reads them.

    Args:
        blocks: the first takes the data, each other what the one before gives.

    Raises:
        ValueError: for no blocks.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> [h.shape[1] for h in BottomUp(nn.Linear(5, 3), nn.Linear(3, 2))(torch.ones(1, 5))]
        [2, 3]
    """

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        if not blocks:
            raise ValueError("BottomUp: there are no blocks; expected one or more")
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """One output of each block, the last block's first."""
        outputs: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return tuple(reversed(outputs))
