"""Energies from multilayer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

__all__ = ["MLPEnergy"]

_ACTIVATIONS = {"silu": nn.SiLU, "tanh": nn.Tanh, "softplus": nn.Softplus}


class MLPEnergy(nn.Module):
    """E(x) = f(x) + prior_precision·‖x‖²/2 with a multilayer perceptron f, [N, dim] → [N]."""

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (64, 64),
        activation: Literal["silu", "tanh", "softplus"] = "silu",
        prior_precision: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((dim, *hidden)):
            layers += [nn.Linear(width_in, width_out), _ACTIVATIONS[activation]()]
        self.network = nn.Sequential(*layers, nn.Linear((dim, *hidden)[-1], 1), nn.Flatten(0))
        self.prior_precision = prior_precision

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.network(x)
        return value + 0.5 * self.prior_precision * x.square().sum(1)
