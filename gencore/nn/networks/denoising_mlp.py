"""A fully connected network that denoises vectors at every level of a diffusion."""

from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.networks.mlp import MLP
from gencore.nn.networks.time_embedding import TimeEmbedding

__all__ = ["DenoisingMLP"]


class DenoisingMLP(nn.Module):
    """An `MLP` of noisy vectors beside the `TimeEmbedding` of their level.

    Args:
        num_features: D.
        hidden_widths: of the hidden layers.
        num_outputs: of the result; D where it is missing.
        time_features: of the embedding.
        activation: as of `MLP`.

    Shape:
        [N, D] and levels int64 [N] → [N, num_outputs], zero at first.

    Raises:
        ValueError: as `MLP` and `TimeEmbedding`.

    Example:
        >>> import torch
        >>> DenoisingMLP(2, [32])(torch.ones(5, 2), torch.arange(5)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        num_features: int,
        hidden_widths: Sequence[int] = (128, 128, 128),
        *,
        num_outputs: int | None = None,
        time_features: int = 64,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.embedding = TimeEmbedding(time_features)
        self.layers = MLP(
            num_features,
            hidden_widths,
            num_features if num_outputs is None else num_outputs,
            activation=activation,
            context_size=time_features,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y: Tensor = self.layers(x, self.embedding(t).to(x.dtype))
        return y
