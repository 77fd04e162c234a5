"""The residual conditioner of neural spline flows (Durkan et al. 2019)."""

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.mlp import ACTIVATIONS, check_dropout
from gencore.sizes import check_positive

__all__ = ["ResidualMLP"]


class ResidualMLP(nn.Module):
    r"""A fully connected network of pre-activation residual blocks, into each of which the context
    is gated.

    .. math:: h_0 = W_0 [x, c] + b_0, \qquad
              h_l = h_{l-1} + f_l(h_{l-1}) \odot \mathrm{sigmoid}(V_l c + v_l), \qquad
              y = W h_L + b

    where f is linear ∘ dropout ∘ σ ∘ BN ∘ linear ∘ σ ∘ BN, and the gate is missing without a
    context. The second linear layer of a block starts close to zero, and the block as the identity.

    Args:
        num_inputs: D, without the context.
        hidden_width: of the blocks.
        num_outputs: O.
        num_blocks: L.
        activation: σ: "elu", "gelu", "leaky_relu", "relu", "silu", "softplus" or "tanh".
        dropout: probability that a unit of a block's hidden layer is zero in training.
        batch_norm: normalise over the batch. The density of a data point then depends on its batch
            in training.
        zero_last: start the last layer at zero, so that the outputs are zero for every input:
            a coupling conditioned by it starts as the identity.
        context_size: C of contexts [N, C]; 0 for none, and contexts are then ignored.

    Shape:
        [N, D], and a context [N, C] → [N, O].

    Raises:
        ValueError: for sizes below 1, neither inputs nor a context, a probability outside [0, 1),
            or another activation; on a call where the context is missing or has another shape.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, and its published
        code. He, Zhang, Ren and Sun, "Identity mappings in deep residual networks", 2016, for the
        blocks. Dauphin, Fan, Auli and Grangier, "Language modeling with gated convolutional
        networks", 2017, for the gate.

    Example:
        >>> import torch
        >>> from gencore.nn import ResidualMLP
        >>> network = ResidualMLP(3, 16, 2, dropout=0.1, context_size=4)
        >>> network(torch.ones(5, 3), torch.ones(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_width: int,
        num_outputs: int,
        *,
        num_blocks: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        zero_last: bool = True,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            "ResidualMLP", hidden_width=hidden_width, num_outputs=num_outputs,
            num_blocks=num_blocks,
        )  # fmt: skip
        if min(num_inputs, context_size) < 0 or num_inputs + context_size < 1:
            raise ValueError(
                f"ResidualMLP: num_inputs is {num_inputs} and context_size {context_size}; "
                "expected an input or a context"
            )
        check_choice("ResidualMLP", "activation", activation, ACTIVATIONS)
        check_dropout("ResidualMLP", dropout)
        self.context_size = context_size
        self.first = nn.Linear(num_inputs + context_size, hidden_width)
        self.blocks = nn.ModuleList(
            _Block(hidden_width, activation, dropout, batch_norm, context_size)
            for _ in range(num_blocks)
        )
        self.last = nn.Linear(hidden_width, num_outputs)
        if zero_last:
            for parameter in self.last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.context_size:
            check_context("ResidualMLP", context, x.shape[0], self.context_size, weight_of(self))
            assert context is not None
            context = context.to(x.dtype)
            x = torch.cat([x, context], 1)
        else:
            context = None
        h = self.first(x)
        for block in self.blocks:
            h = block(h, context)
        outputs: Tensor = self.last(h)
        return outputs


class _Block(nn.Module):
    def __init__(
        self, width: int, activation: str, dropout: float, batch_norm: bool, context_size: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(2):
            if batch_norm:
                layers.append(nn.BatchNorm1d(width, eps=1e-3))
            layers.append(ACTIVATIONS[activation]())
            if number:  # without dropout something else, so that the numbers of layers are the same
                layers.append(nn.Dropout(dropout) if dropout else nn.Identity())
            layers.append(nn.Linear(width, width))
        for parameter in layers[-1].parameters():
            nn.init.uniform_(parameter, -1e-3, 1e-3)
        self.layers = nn.Sequential(*layers)
        self.gate = nn.Linear(context_size, width) if context_size else None

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        change: Tensor = self.layers(h)
        if self.gate is not None:
            change = change * torch.sigmoid(self.gate(context))
        return h + change
