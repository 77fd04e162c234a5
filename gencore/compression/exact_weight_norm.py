"""Normalised weights with the same bits on every machine."""

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from gencore.models import AutoregressiveImageModel

__all__ = ["ExactWeightNorm", "with_exact_weight_norm"]


class ExactWeightNorm(nn.Module):
    r"""w = g·v/‖v‖ with sums of squares that are rounded once, whatever their order.

    Args:
        dim: of v, which has a norm for each of its indices.

    Example:
        >>> import torch
        >>> ExactWeightNorm(0)(torch.tensor([[10.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([[6., 8.]])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """In the dtype of v; g has its dimensions, of size 1 but for `dim`."""
        # Squares of float32 are exact in float64.
        wide = v.double()
        squares = wide.square().movedim(self.dim, 0).flatten(1).tolist()
        norms = torch.tensor([math.fsum(row) for row in squares], dtype=torch.float64).sqrt()
        scale = g.double() / norms.to(g.device).view_as(g)
        return (wide * scale).to(v.dtype)


def with_exact_weight_norm(model: "AutoregressiveImageModel") -> "AutoregressiveImageModel":
    """The model, or a copy of it with exact norms where its weights are normalised."""
    if not any(parametrize.is_parametrized(layer) for layer in model.modules()):
        return model
    model = copy.deepcopy(model)
    for layer in list(model.modules()):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        lists: Any = layer.parametrizations
        lists["weight"][0] = ExactWeightNorm(lists["weight"][0].dim)
    return model
