"""A network of sets of vectors whose outputs follow the order of the members."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.networks.mlp import ACTIVATIONS
from gencore.nn.sets.equivariant_layers import EquivariantLinear

__all__ = ["EquivariantMLP"]


class EquivariantMLP(nn.Module):
    """Equivariant linear layers with an activation between them: outputs for each member of a set.

    A permutation of the members permutes the outputs alike, and each output may depend on all
    members. With one output it is a discriminator of mixed batches, [N, B, F] → scores [N, B], for
    :class:`gencore.objectives.BGANLoss` and :class:`gencore.objectives.MBGANLoss`.

    Args:
        num_inputs: F.
        hidden_widths: of the hidden layers, first to last; none is one layer.
        num_outputs: O; ``None`` for one number a member, without a dimension of outputs.
        activation: one of those of :class:`gencore.nn.MLP`.

    Shape:
        [N, B, F] → [N, B, O], or [N, B].

    Raises:
        ValueError: for sizes below 1 or another activation, and on a call for another shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.1.

    Example:
        >>> import torch
        >>> from gencore.nn import EquivariantMLP
        >>> EquivariantMLP(2, [16, 16])(torch.randn(3, 4, 2)).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_widths: Sequence[int],
        num_outputs: int | None = None,
        *,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        check_choice("EquivariantMLP", "activation", activation, ACTIVATIONS)
        self.one_output = num_outputs is None
        widths = (num_inputs, *hidden_widths, 1 if num_outputs is None else num_outputs)
        layers: list[nn.Module] = []
        for sizes in pairwise(widths):
            layers += [EquivariantLinear(*sizes), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs.squeeze(2) if self.one_output else outputs
