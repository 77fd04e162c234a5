"""A fully connected vector field that changes over time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.mlp import MLP

__all__ = ["VelocityMLP"]


class VelocityMLP(nn.Module):
    """The vector field f(t, x; c) of an `MLP` of x beside t and a context.

    Time is an input as it is: over the unit interval of a flow the frequencies of a `TimeEmbedding`
    are those of a straight line.

    Args:
        features: D.
        hidden_widths: of the hidden layers.
        activation: as of `MLP`; a smooth one, since the trace is a derivative of the field.
        context_size: C of contexts [N, C]; 0 for none, and contexts are then ignored.

    Shape:
        A time [], points [N, D] and a context [N, C] → [N, D], zero at first.

    Raises:
        ValueError: as `MLP`, and on a call for points of another shape.

    Example:
        >>> import torch
        >>> from gencore.nn import VelocityMLP
        >>> VelocityMLP(2, [16])(torch.tensor(0.5), torch.ones(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int] = (64, 64),
        *,
        activation: str = "silu",
        context_size: int = 0,
    ) -> None:
        super().__init__()
        self.features, self.context_size = features, context_size
        self.network = MLP(
            features, hidden_widths, features, activation=activation, context_size=1 + context_size
        )

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"VelocityMLP: got points of shape {list(x.shape)}; expected [N, {self.features}]"
            )
        condition = t.to(x.dtype).expand(x.shape[0], 1)
        if self.context_size:
            check_context(
                "VelocityMLP", context, x.shape[0], self.context_size, weight_of(self.network)
            )
            assert context is not None
            condition = torch.cat([condition, context.to(x.dtype)], 1)
        velocity: Tensor = self.network(x, condition)
        return velocity
