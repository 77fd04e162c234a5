"""The masked network whose outputs each depend on the inputs before them only."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.nn.context import check_context_dtype
from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.ops.made_inverse import made_masks
from gencore.ops.mlp import ActivationName, activate, activation_kind

__all__ = ["MADE"]


class MADE(FixedBuffers):
    r"""A fully connected network with autoregressive outputs.

    .. math:: h_l = \sigma\big((W_l \odot M_l) h_{l-1} + b_l\big), \qquad
              y_i = f_i(x_1, \dots, x_{i-1}; c)

    A hidden unit of degree d sees the inputs 1, …, d, and output i the units of degree below i.
    Degrees are spread evenly over a layer, in ascending order, so that every unit is used, and
    :func:`gencore.ops.made_inverse` can compute each exactly once. A context c is added to the
    first hidden layer; with one, some units have degree 0, so that the first output depends on it.

    Args:
        num_inputs: D.
        hidden_widths: H₁, …, H_L; at least one, at least two units each where D > 2.
        outputs_per_input: P.
        activation: σ: "silu", "softplus", "tanh", "leaky_relu" (of slope 0.01) or "relu".
        context_size: C, or 0 for none.
        order: the inputs from first to last, a permutation of 0, …, D − 1; ``None``: as they come.

    Shape:
        [..., D] and a context [..., C] → [..., P, D].

    Raises:
        ValueError: for sizes or an order that do not fit, and on a call with inputs or a context
            of another size.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", 2015, eq. (8)-(13).

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

    def __init__(
        self,
        num_inputs: int,
        hidden_widths: Sequence[int],
        outputs_per_input: int = 2,
        *,
        activation: ActivationName = "relu",
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
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
        self.num_inputs, self.outputs_per_input = num_inputs, outputs_per_input
        self.hidden_widths, self.context_size = widths, context_size
        self.activation: ActivationName = activation
        self._kind, self.negative_slope = activation_kind("MADE", activation, 0.01)
        sizes = (num_inputs, *widths, outputs_per_input * num_inputs)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.context = nn.Linear(context_size, widths[0], bias=False) if context_size else None
        # The masks follow from the widths, and are no part of what is saved.
        with with_values():
            degrees = [_degrees(num_inputs, width, context_size > 0) for width in widths]
            inputs = torch.arange(num_inputs)
            ends = torch.stack([torch.searchsorted(d, inputs, right=True) for d in degrees])
            masks = made_masks(ends, widths, outputs_per_input)
            order = None if order is None else torch.as_tensor(order, dtype=torch.int64)
        self.register_fixed("unit_ends", ends, persistent=False)
        for layer, mask in enumerate(masks):
            self.register_fixed(f"mask{layer}", mask, persistent=False)
        if order is None:
            self.order = self.inverse_order = None
            return
        if order.dim() != 1 or sorted(order.tolist()) != list(range(num_inputs)):
            raise ValueError(
                f"MADE: {order.tolist()} is not a permutation of 0, …, {num_inputs - 1}"
            )
        self.register_fixed("order", order)
        self.register_fixed("inverse_order", order.argsort())

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The outputs of [..., D], [..., P, D]; with `masks` of the weights [out, in] in the place
        of the network's own."""
        if x.shape[-1:] != (self.num_inputs,):
            raise ValueError(
                f"MADE: inputs have shape {list(x.shape)}, expected [..., {self.num_inputs}]"
            )
        hidden = x if self.order is None else x[..., self.order]
        term = self.context_term(context)
        last = len(self.layers) - 1
        for layer, linear in enumerate(self.linears()):
            weight = linear.weight * (self.mask(layer) if masks is None else masks[layer])
            hidden = functional.linear(hidden, weight, linear.bias)
            if layer == 0 and term is not None:
                hidden = hidden + term
            if layer < last:
                hidden = self.activate(hidden)
        y = hidden.unflatten(-1, (self.outputs_per_input, self.num_inputs))
        return y if self.inverse_order is None else y[..., self.inverse_order]

    def activate(self, z: Tensor) -> Tensor:
        """The hidden units of their sums z."""
        return activate(z, self._kind, self.negative_slope)

    def mask(self, layer: int) -> Tensor:
        """The mask of a layer's weight, bool [out, in]; the last has P blocks of D rows."""
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
        return f"activation={self.activation!r}"


def _degrees(num_inputs: int, width: int, has_context: bool) -> Tensor:
    """A layer's degrees in ascending order: evenly spread, the lowest and the highest among them.

    A layer without the lowest would leave some units without inputs, one without the highest would
    leave some of the layer before without use.
    """
    lowest = 0 if has_context or num_inputs == 1 else 1
    count, units = num_inputs - lowest, torch.arange(width)
    if width >= count:
        return lowest + units * count // width
    return lowest + units * (count - 1) // max(width - 1, 1)
