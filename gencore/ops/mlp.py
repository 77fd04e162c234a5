"""Energies that are small fully connected networks, in the form that the chain kernels take."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from gencore.choices import check_choice
from gencore.ops._support.autograd import leaf, ordinary
from gencore.ops._support.checks import accumulation_dtype, check_state, finite

__all__ = ["ActivationName", "mlp_energy"]

ActivationName = Literal["silu", "softplus", "tanh", "leaky_relu", "relu"]

_MAX_LAYERS = 5
# In the order of csrc/math/activation.h; the ReLU is the leaky one of slope 0.
_KINDS: dict[str, int] = {"silu": 0, "softplus": 1, "tanh": 2, "leaky_relu": 3, "relu": 3}


class MLP(NamedTuple):
    """A network's parameters, flat: weight, bias, weight, bias, …, with its layers' widths."""

    parameters: Tensor
    widths: list[int]
    kind: int
    negative_slope: float


def mlp_energy(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    activation: ActivationName = "silu",
    negative_slope: float = 0.01,
    prior_precision: float = 0.0,
) -> Tensor:
    r"""The energy of a fully connected network with a Gaussian prior, in ordinary PyTorch.

    .. math:: E(x) = w^\top h_L + b + \tfrac{\lambda}{2}\lVert x\rVert^2, \qquad
              h_l = \sigma(W_l h_{l-1} + b_l), \quad h_0 = x

    Args:
        x: [N, D].
        weights: W₁ [H₁, D], …, wᵀ [1, H_L]: one a layer, at most four hidden layers; none at all
            leaves the prior alone.
        biases: b₁ [H₁], …, b [1]: as many.
        activation: σ: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: slope of the leaky ReLU below zero.
        prior_precision: λ.

    Returns:
        E(x), [N].

    Raises:
        TypeError, ValueError: for shapes, dtypes or an activation that do not fit.

    Example:
        >>> import torch
        >>> from gencore.ops.mlp import mlp_energy
        >>> mlp_energy(torch.tensor([[3.0, 4.0]]), [], [], prior_precision=2.0)
        tensor([25.])
    """
    op = "mlp_energy"
    _, kind, slope = _check(op, x, weights, biases, activation, negative_slope)
    prior = finite(op, "prior_precision", prior_precision)
    return _energy(x, weights, biases, kind, slope, prior)


def as_mlp(
    op: str,
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    negative_slope: float,
) -> MLP:
    """Check a network against its input and bring it to the kernels' form."""
    widths, kind, slope = _check(op, x, weights, biases, activation, negative_slope)
    pieces = [t.reshape(-1) for pair in zip(weights, biases, strict=True) for t in pair]
    parameters = torch.cat(pieces) if pieces else x.new_empty(0)
    return MLP(parameters.to(accumulation_dtype(x)), widths, kind, slope)


def _check(
    op: str,
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    negative_slope: float,
) -> tuple[list[int], int, float]:
    """The layers' widths, the activation's number and its slope below zero, or raise."""
    kind = activation_kind(op, activation, negative_slope)
    widths = check_layers(op, x, weights, biases)
    if len(weights) > _MAX_LAYERS:
        raise ValueError(f"{op}: got {len(weights)} layers, expected at most {_MAX_LAYERS}")
    if weights and widths[-1] != 1:
        raise ValueError(f"{op}: the last layer has {widths[-1]} outputs, expected 1, the energy")
    return widths, *kind


def check_layers(
    op: str, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> list[int]:
    """The widths before and after each layer of a network that fits its input, or raise."""
    check_state(op, x)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, D]")
    for name, tensors in (("weights", weights), ("biases", biases)):
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{op}: {name} must be tensors, got {type(tensor).__name__}")
    if len(weights) != len(biases):
        raise ValueError(
            f"{op}: got {len(weights)} weights and {len(biases)} biases, expected as many of both"
        )
    widths = [x.shape[1]]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs = weight.shape[0] if weight.dim() == 2 else 0
        if weight.shape != (outputs, widths[-1]) or bias.shape != (outputs,) or outputs == 0:
            raise ValueError(
                f"{op}: layer {layer} has a weight of shape {list(weight.shape)} and a bias of "
                f"shape {list(bias.shape)}, expected [H, {widths[-1]}] and [H]"
            )
        for name, tensor in (("weight", weight), ("bias", bias)):
            if tensor.dtype != x.dtype or tensor.device != x.device:
                raise ValueError(
                    f"{op}: layer {layer}'s {name} is {tensor.dtype} on {tensor.device}, "
                    f"x is {x.dtype} on {x.device}"
                )
        widths.append(outputs)
    return widths


def activation_kind(op: str, activation: str, negative_slope: float) -> tuple[int, float]:
    """An activation's number in the kernels and its slope below zero, or raise."""
    check_choice(op, "activation", activation, get_args(ActivationName))
    slope = finite(op, "negative_slope", negative_slope)
    return _KINDS[activation], slope if activation == "leaky_relu" else 0.0


def check_context_term(op: str, x: Tensor, term: Tensor | None, width: int) -> None:
    """Raise unless ``term`` is missing or a row of that width for each row of ``x``."""
    if term is None:
        return
    if not isinstance(term, Tensor):
        raise TypeError(f"{op}: context_term must be a tensor, got {type(term).__name__}")
    if term.shape != (x.shape[0], width) or term.dtype != x.dtype or term.device != x.device:
        raise ValueError(
            f"{op}: context_term is {term.dtype} of shape {list(term.shape)} on {term.device}, "
            f"expected {x.dtype} of shape {[x.shape[0], width]} on {x.device}"
        )


def _energy(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    kind: int,
    negative_slope: float,
    prior_precision: float,
) -> Tensor:
    # Zero times a square that overflows would be NaN.
    square = x * x if prior_precision != 0.0 else 0.0 * x
    value = 0.5 * prior_precision * square.sum(1)
    if not weights:
        return value
    hidden = x
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = activate(functional.linear(hidden, weight, bias), kind, negative_slope)
    return value + functional.linear(hidden, weights[-1], biases[-1]).squeeze(1)


def activate(z: Tensor, kind: int, negative_slope: float) -> Tensor:
    """The activation with that number in :data:`_KINDS`."""
    if kind == 0:
        return functional.silu(z)
    if kind == 1:
        return functional.softplus(z)
    if kind == 2:
        return torch.tanh(z)
    return functional.leaky_relu(z, negative_slope)


def energy(x: Tensor, mlp: MLP, prior_precision: float) -> Tensor:
    """:func:`mlp_energy` of a network in the kernels' form."""
    weights, biases, at = [], [], 0
    for inputs, outputs in pairwise(mlp.widths):
        weights.append(mlp.parameters[at : at + inputs * outputs].view(outputs, inputs))
        at += inputs * outputs
        biases.append(mlp.parameters[at : at + outputs])
        at += outputs
    return _energy(x, weights, biases, mlp.kind, mlp.negative_slope, prior_precision)


def energy_gradient(x: Tensor, mlp: MLP, prior_precision: float) -> tuple[Tensor, Tensor]:
    """E(x) [N] and ∇E(x) [N, D], differentiable in turn where autograd is on."""
    differentiable = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        if not (differentiable and x.requires_grad):
            x = leaf(x)
        mlp = mlp._replace(parameters=ordinary(mlp.parameters))
        value = energy(x, mlp, prior_precision)
        (grad,) = torch.autograd.grad(value.sum(), x, create_graph=differentiable)
    return (value if differentiable else value.detach()), grad
