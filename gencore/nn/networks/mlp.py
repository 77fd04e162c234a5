"""A fully connected network, the conditioner of couplings on vectors."""

from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.context import check_context, weight_of
from gencore.ops import mlp_network
from gencore.ops._support.checks import number
from gencore.ops.mlp import ActivationName

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
_FUSED: dict[str, ActivationName] = {name: name for name in get_args(ActivationName)}


class MLP(nn.Module):
    """Linear layers with an activation between them, conditioned on a context by concatenation.

    They are one call of :func:`gencore.ops.mlp_network`, which calls no hooks of the layers, unless
    units are dropped in training.

    Args:
        num_inputs: D, without the context. With neither, the outputs are plain parameters, zero at
            first.
        hidden_widths: of the hidden layers, first to last; none is a linear map.
        num_outputs: O.
        activation: "elu", "gelu", "leaky_relu", "relu", "silu", "softplus" or "tanh".
        dropout: probability that a hidden unit is zero in training.
        zero_last: start the last layer at zero, so that the outputs are zero for every input:
            a coupling conditioned by it starts as the identity.
        context_size: C of contexts [N, C]; 0 for none, and contexts are then ignored.

    Shape:
        [N, D], and a context [N, C] → [N, O].

    Raises:
        ValueError: for sizes below 1, another activation or a probability outside [0, 1), and on a
            call where the context is missing, or has another shape.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP
        >>> MLP(3, [16], 2, context_size=4)(torch.ones(5, 3), torch.ones(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_widths: Sequence[int],
        num_outputs: int,
        *,
        activation: str = "silu",
        dropout: float = 0.0,
        zero_last: bool = True,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        widths = (num_inputs + context_size, *hidden_widths, num_outputs)
        if min(widths[1:]) < 1 or min(num_inputs, context_size) < 0:
            raise ValueError(
                f"MLP: num_inputs is {num_inputs}, hidden_widths {tuple(hidden_widths)}, "
                f"num_outputs {num_outputs} and context_size {context_size}; expected positive "
                "widths, and inputs and a context of 0 or more"
            )
        check_choice("MLP", "activation", activation, ACTIVATIONS)
        check_dropout("MLP", dropout)
        self.context_size = context_size
        self._fused: ActivationName | None = _FUSED.get(activation)
        layers: list[nn.Module] = []
        if not widths[0]:
            self.layers = nn.Sequential()
            self.constant = nn.Parameter(torch.zeros(num_outputs))
            return
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[activation]()]
        last = layers[-2]
        self.layers = nn.Sequential(*layers[:-1])
        self._types = [type(layer) for layer in self.layers]
        # Beside the layers, whose numbers in a state dict are then those without dropout.
        self.dropout = nn.Dropout(dropout) if dropout and hidden_widths else None
        if zero_last:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    @property
    def last(self) -> nn.Linear | None:
        """The last layer; ``None`` where the outputs are plain parameters."""
        layer = self.layers[-1] if self.layers else None
        assert layer is None or isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if not self.layers:
            return self.constant + x.sum(1, keepdim=True)  # of nothing: zeros [N, 1]
        if self.context_size:
            check_context("MLP", context, x.shape[0], self.context_size, weight_of(self))
            assert context is not None
            x = torch.cat([x, context], 1)
        if self.dropout is not None and self.training:
            for index, layer in enumerate(self.layers):
                x = self.dropout(layer(x)) if index % 2 else layer(x)
            return x
        # Not where a layer was replaced or parametrised, which the operator would not see.
        if self._fused and self._types == [type(layer) for layer in self.layers]:
            linear = list(self.layers)[::2]
            weights, biases = zip(*((layer.weight, layer.bias) for layer in linear), strict=True)
            return mlp_network(x, weights, biases, activation=self._fused)
        outputs: Tensor = self.layers(x)
        return outputs


def check_dropout(owner: str, dropout: float) -> None:
    """Raise a ValueError unless a dropout is a probability below 1."""
    if not number(owner, "dropout", dropout) < 1:
        raise ValueError(f"{owner}: dropout is {dropout}; expected less than 1")
