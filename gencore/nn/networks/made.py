"""The masked network whose outputs each depend on the inputs before them only."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.nn.context import check_context_dtype
from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.networks.made_masks import graph_plan, order_plan
from gencore.nn.networks.mlp import ACTIVATIONS, check_dropout
from gencore.ops.made_inverse import MAX_HIDDEN
from gencore.ops.mlp import ActivationName

__all__ = ["MADE"]


class MADE(FixedBuffers):
    r"""A fully connected network with autoregressive outputs.

    .. math:: h_l = \sigma\big((W_l \odot M_l) h_{l-1} + b_l\big), \qquad
              y_i = f_i(x_1, \dots, x_{i-1}; c)

    A hidden unit of degree d sees the inputs 1, …, d, and output i the units of degree below i.
    Degrees are spread evenly over a layer, in ascending order, so that every unit is used, and
    :func:`gencore.ops.made_inverse` can compute each exactly once. A context c is added to the
    first hidden layer; with one, some units have degree 0, so that the first output depends on it.

    With an `adjacency`, y_i depends on the inputs that its row names, and a hidden unit sees the
    inputs that some row names; a layer of fewer units than there are different rows leaves out
    some, so that outputs may depend on less. With `residual`, every hidden layer after the first is
    a block h_l = h_{l−1} + W″σ(W′σ(h_{l−1})) of masked weights, and the outputs are made of σ(h_L).

    Args:
        num_inputs: D.
        hidden_widths: H₁, …, H_L; at least one, at least two units each where D > 2, and equal ones
            if `residual`.
        outputs_per_input: P.
        activation: σ: "elu", "gelu", "leaky_relu" (of slope 0.01), "relu", "silu", "softplus" or
            "tanh".
        context_size: C, or 0 for none.
        order: the inputs from first to last, a permutation of 0, …, D − 1; ``None``: as they come.
        adjacency: bool [D, D] in the place of an order: entry (i, j) says whether output i may
            depend on input j. It has to be strictly triangular in some order of the inputs.
        residual: residual blocks in the place of hidden layers.
        dropout: probability of a hidden unit, or one inside a block, to be zero in training mode.
        features_first: return the P outputs of an input as neighbours, [..., D, P].

    Shape:
        [..., D] and a context [..., C] → [..., P, D], or [..., D, P] with `features_first`.

    Raises:
        ValueError: for sizes, an order or an adjacency that do not fit, and on a call with inputs
            or a context of another size.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", 2015, eq. (8)-(13). Nash and Durkan, "Autoregressive energy machines", 2019,
        §3.1, for residual blocks.

    Example:
        >>> import torch
        >>> from gencore.nn import MADE
        >>> made = MADE(3, (16, 16), activation="tanh")
        >>> torch.autograd.functional.jacobian(made, torch.zeros(3)).abs().sum(0) > 0
        tensor([[False, False, False],
                [ True, False, False],
                [ True,  True, False]])
    """

    unit_ends: Tensor
    order: Tensor | None
    inverse_order: Tensor | None
    generations: Tensor
    """[D]: how many inputs the longest path to one has before it, of the inputs in their order."""
    depth: int
    """The inputs of the longest path, each of which an output of the next depends on; D without an
    adjacency."""

    def __init__(
        self,
        num_inputs: int,
        hidden_widths: Sequence[int],
        outputs_per_input: int = 2,
        *,
        activation: str = "relu",
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        residual: bool = False,
        dropout: float = 0.0,
        features_first: bool = False,
    ) -> None:
        super().__init__()
        widths = tuple(hidden_widths)
        if min(num_inputs, outputs_per_input, *widths, len(widths)) < 1 or context_size < 0:
            raise ValueError(
                f"MADE: num_inputs is {num_inputs}, hidden_widths {widths}, outputs_per_input "
                f"{outputs_per_input} and context_size {context_size}; expected positive sizes, "
                "at least one hidden layer and a context of 0 or more"
            )
        if num_inputs > 2 and min(widths) < 2:
            raise ValueError(
                f"MADE: hidden_widths are {widths}; expected at least two units a layer"
            )
        if residual and len(set(widths)) > 1:
            raise ValueError(
                f"MADE: hidden_widths are {widths}; expected equal ones for residual blocks"
            )
        check_dropout("MADE", dropout)
        if order is not None and adjacency is not None:
            raise ValueError("MADE: got an order and an adjacency; expected at most one of the two")
        check_choice("MADE", "activation", activation, ACTIVATIONS)
        self.num_inputs, self.outputs_per_input = num_inputs, outputs_per_input
        self.hidden_widths, self.context_size = widths, context_size
        self.activation, self.negative_slope = activation, 0.01
        self.residual, self.features_first = residual, features_first
        self.dropout = nn.Dropout(dropout)
        self.is_graph = adjacency is not None
        self._activation = ACTIVATIONS[activation]()
        # The masks follow from the arguments, and are no part of what is saved.
        with with_values():
            outputs = torch.arange(num_inputs)
            outputs = (
                outputs.repeat_interleave(outputs_per_input)
                if features_first
                else outputs.repeat(outputs_per_input)
            )
            if adjacency is None:
                plan = order_plan(
                    num_inputs, widths, outputs, has_context=context_size > 0, order=order
                )
            else:
                plan = graph_plan(
                    _graph(adjacency, num_inputs), widths, outputs,
                    has_context=context_size > 0, same_units=residual,
                )  # fmt: skip
        first, *hidden, last = plan.masks
        # Tensors of their own: torch.func takes buffers that are one tensor for tied ones.
        masks = [first, *(mask.clone() for mask in hidden for _ in range(1 + residual)), last]
        self.layers = nn.ModuleList(nn.Linear(mask.shape[1], mask.shape[0]) for mask in masks)
        self.context = nn.Linear(context_size, widths[0], bias=False) if context_size else None
        self.depth = plan.depth
        self.register_fixed("unit_ends", plan.unit_ends, persistent=False)
        self.register_fixed("generations", plan.generations, persistent=False)
        for layer, mask in enumerate(masks):
            self.register_fixed(f"mask{layer}", mask, persistent=False)
        if plan.order is None:
            self.order = self.inverse_order = None
            return
        self.register_fixed("order", plan.order, persistent=adjacency is None)
        self.register_fixed("inverse_order", plan.order.argsort(), persistent=adjacency is None)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        masks: Sequence[Tensor] | None = None,
        dropout: bool = True,
    ) -> Tensor:
        """The outputs [..., P, D] or [..., D, P] of [..., D].

        With `masks` of the weights [out, in] in the place of the network's own; without dropout, in
        training mode too, where it is not wanted.
        """
        if x.shape[-1:] != (self.num_inputs,):
            raise ValueError(
                f"MADE: inputs have shape {list(x.shape)}, expected [..., {self.num_inputs}]"
            )
        drops = dropout and self.training and self.dropout.p > 0

        def activated(z: Tensor) -> Tensor:
            units = self.activate(z)
            return self.dropout(units) if drops else units

        (weight, bias), *hidden, last = self._masked(masks)
        z = functional.linear(x if self.order is None else x[..., self.order], weight, bias)
        term = self.context_term(context)
        if term is not None:
            z = z + term
        if self.residual:
            for inner, outer in zip(hidden[::2], hidden[1::2], strict=True):
                z = z + functional.linear(
                    activated(functional.linear(self.activate(z), *inner)), *outer
                )
        else:
            for weight, bias in hidden:
                z = functional.linear(activated(z), weight, bias)
        y = functional.linear(self.activate(z) if self.residual else activated(z), *last)
        each = (self.outputs_per_input, self.num_inputs)
        return y.unflatten(-1, each[::-1] if self.features_first else each)

    def _masked(self, masks: Sequence[Tensor] | None) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer, the last one's rows in the places of the inputs."""
        linears = self.linears()
        if masks is None:
            masks = [self.mask(layer) for layer in range(len(linears))]
        weights = [linear.weight * mask for linear, mask in zip(linears, masks, strict=True)]
        weights[-1] = self._in_place(weights[-1])
        biases: list[Tensor] = [linear.bias for linear in linears]
        biases[-1] = self._in_place(biases[-1])
        return list(zip(weights, biases, strict=True))

    def _in_place(self, rows: Tensor) -> Tensor:
        """Rows that belong to the ordered inputs in the places of the inputs as they come."""
        if self.inverse_order is None:
            return rows
        if self.features_first:
            blocks = rows.unflatten(0, (self.num_inputs, self.outputs_per_input))
            return blocks[self.inverse_order].flatten(0, 1)
        blocks = rows.unflatten(0, (self.outputs_per_input, self.num_inputs))
        return blocks[:, self.inverse_order].flatten(0, 1)

    def ordered_weights(self) -> list[Tensor]:
        """The layers' weights, for :func:`gencore.ops.made_inverse`: in the order of the inputs,
        masked where that does not do it."""
        weights: list[Tensor] = [linear.weight for linear in self.linears()]
        if not self.is_graph:
            return weights
        return [weight * self.mask(layer) for layer, weight in enumerate(weights)]

    @property
    def fused_activation(self) -> ActivationName | None:
        """The activation, if :func:`gencore.ops.made_inverse` takes such a network."""
        is_plain = not self.residual and len(self.hidden_widths) <= MAX_HIDDEN
        names: dict[str, ActivationName] = {name: name for name in get_args(ActivationName)}
        return names.get(self.activation) if is_plain else None

    def activate(self, z: Tensor) -> Tensor:
        """The hidden units of their sums z."""
        units: Tensor = self._activation(z)
        return units

    def mask(self, layer: int) -> Tensor:
        """The mask of a layer's weight, bool [out, in]; the last has P blocks of D rows, or
        D blocks of P with `features_first`."""
        return self.get_buffer(f"mask{layer}")

    def linears(self) -> list[nn.Linear]:
        """The layers from first to last, with weights that are not masked."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def context_term(self, context: Tensor | None) -> Tensor | None:
        """What the context adds to the first hidden layer, [..., H₁]."""
        if self.context is None:
            return None
        if context is None or context.shape[-1:] != (self.context_size,):
            given = None if context is None else list(context.shape)
            raise ValueError(
                f"MADE: the context is {given}, expected a tensor [..., {self.context_size}]"
            )
        check_context_dtype("MADE", context, self.context.weight)
        term: Tensor = self.context(context.to(self.context.weight.dtype))
        return term

    def extra_repr(self) -> str:
        return f"residual={self.residual}, dropout={self.dropout.p}, depth={self.depth}"


def _graph(adjacency: Sequence[Sequence[bool]] | Tensor, num_inputs: int) -> Tensor:
    """An adjacency as a bool tensor on the CPU, or raise."""
    graph = torch.as_tensor(adjacency)
    if graph.dtype != torch.bool or graph.shape != (num_inputs, num_inputs):
        raise ValueError(
            f"MADE: the adjacency is {graph.dtype} of shape {list(graph.shape)}; expected "
            f"torch.bool of shape {[num_inputs, num_inputs]}"
        )
    return graph.cpu()
