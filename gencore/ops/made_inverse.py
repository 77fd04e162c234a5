"""The sequential inverse of an affine autoregressive layer with a MADE network, in one call."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gencore.choices import check_choice
from gencore.ops._support.backend import state
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_native_device,
    check_state,
    clip_bound,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.mlp import ActivationName, activate, activation_kind, check_context_term

__all__ = ["AutoregressiveScale", "made_inverse"]

AutoregressiveScale = Literal["exponential", "gate"]

_MAX_HIDDEN = 4
# In the order of csrc/arguments/made.h.
_SCALES: dict[str, int] = {"exponential": 0, "gate": 1}
_inverse = kernel(torch.ops.gencore.made_inverse.default)


class _Settings(NamedTuple):
    kind: int
    negative_slope: float
    scale: int
    bound: float


def made_inverse(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    unit_ends: Tensor,
    *,
    scale: AutoregressiveScale = "exponential",
    bound: float | None = 2.0,
    activation: ActivationName = "relu",
    negative_slope: float = 0.01,
    context_term: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""x with f(x) = z for an affine autoregressive map f, and log\|det ∂x/∂z\|.

    .. math:: \text{exponential: } x_i = z_i e^{s_i} + m_i, \qquad
              \text{gate: } x_i = m_i + \frac{z_i - m_i}{\sigma(s_i)}, \qquad i = 1, \dots, D

    where m_i and s_i depend on x_1, …, x_{i-1} through a masked network, with
    s = bound·tanh(s̃ / bound) of its output s̃. The exponential inverts z = (x − m)·exp(−s), the
    gate z = σ(s)·x + (1 − σ(s))·m. Hidden units are ordered by their degree, the number of
    inputs that they may depend on, and each is computed once, when its last input has become known:
    the whole inverse costs about half of one dense pass of the network, where evaluating it anew
    for every coordinate costs D. What masks would remove is not read. Never differentiable:
    :class:`gencore.nn.MaskedAutoregressive` is.

    Args:
        z: [N, D]; float64, float32, bfloat16 or float16.
        weights: W₁ [H₁, D], …, [2D, H_L], one to four hidden layers; the last one's first D rows
            give m, the others s.
        biases: [H₁], …, [2D].
        unit_ends: int64 [L, D]; entry (l, d) counts the units of hidden layer l of degree at most
            d, d = 0, …, D − 1, which are its first ones. Rows are in ascending order.
        scale: "exponential" or "gate".
        bound: largest \|s\|; ``None``: s is s̃.
        activation: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: slope of the leaky ReLU below zero.
        context_term: [N, H₁], added to the first hidden layer's pre-activations.

    Returns:
        x [N, D], and Σ log ∂x_i/∂z_i, [N], in float64 for float64 data and otherwise float32.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", 2015. Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for
        Density Estimation", 2017, eq. (3)-(4). Kingma et al., "Improved Variational Inference with
        Inverse Autoregressive Flow", 2016, eq. (13)-(14).

    Example:
        >>> import torch
        >>> from gencore.ops import made_inverse
        >>> weights = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0], [1.0], [0.0], [0.0]])]
        >>> ends = torch.tensor([[0, 1]])  # one hidden unit, which depends on the first input
        >>> made_inverse(torch.ones(1, 2), weights, [torch.zeros(1), torch.zeros(4)], ends)
        (tensor([[1., 2.]]), tensor([0.]))
    """
    op = "made_inverse"
    _check_network(op, z, weights, biases)
    _check_ends(op, z, unit_ends, weights)
    check_choice(op, "scale", scale, _SCALES)
    check_context_term(op, z, context_term, weights[0].shape[0])
    settings = _Settings(
        *activation_kind(op, activation, negative_slope),
        _SCALES[scale],
        clip_bound(op, "bound", bound),
    )
    dtype = accumulation_dtype(z)
    weights = [weight.detach().to(dtype) for weight in weights]
    biases = [bias.detach().to(dtype) for bias in biases]
    term = None if context_term is None else context_term.detach().to(dtype)
    if state.reference:
        return _reference(z.detach(), weights, biases, unit_ends, term, settings)
    check_native_device(op, z)
    x, log_det = _inverse(z.detach(), weights, biases, unit_ends, term, *settings)
    return x, log_det


def made_masks(unit_ends: Tensor, widths: Sequence[int], outputs_per_input: int) -> list[Tensor]:
    """The masks [out, in] of the weights of a network whose hidden layers have those widths."""
    positions = torch.arange(unit_ends.shape[1], device=unit_ends.device)
    hidden = _degrees(unit_ends, widths)
    degrees = [positions + 1, *hidden, positions.repeat(outputs_per_input)]
    return [following[:, None] >= preceding[None, :] for preceding, following in pairwise(degrees)]


def _degrees(unit_ends: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """The degree of each hidden unit, a tensor a layer."""
    return [
        torch.searchsorted(ends.contiguous(), torch.arange(width, device=ends.device), right=True)
        for ends, width in zip(unit_ends, widths, strict=True)
    ]


def _check_network(op: str, z: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
    check_state(op, z, "z")
    if z.dim() != 2 or z.shape[1] == 0:
        raise ValueError(f"{op}: z has shape {list(z.shape)}, expected [N, D]")
    if len(weights) != len(biases) or not 2 <= len(weights) <= _MAX_HIDDEN + 1:
        raise ValueError(
            f"{op}: got {len(weights)} weights and {len(biases)} biases, expected as many of both, "
            f"2 to {_MAX_HIDDEN + 1}"
        )
    inputs = z.shape[1]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        for name, tensor in (("weight", weight), ("bias", bias)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{op}: a {name} must be a tensor, got {type(tensor).__name__}")
            if tensor.dtype != z.dtype or tensor.device != z.device:
                raise ValueError(
                    f"{op}: layer {layer}'s {name} is {tensor.dtype} on {tensor.device}, "
                    f"z is {z.dtype} on {z.device}"
                )
        outputs = weight.shape[0] if weight.dim() == 2 else 0
        is_last = layer == len(weights) - 1
        fits = outputs == 2 * z.shape[1] if is_last else outputs > 0
        if weight.shape != (outputs, inputs) or bias.shape != (outputs,) or not fits:
            rows = 2 * z.shape[1] if is_last else "H"
            raise ValueError(
                f"{op}: layer {layer} has a weight of shape {list(weight.shape)} and a bias of "
                f"shape {list(bias.shape)}, expected [{rows}, {inputs}] and [{rows}]"
            )
        inputs = outputs


def _check_ends(op: str, z: Tensor, unit_ends: Tensor, weights: Sequence[Tensor]) -> None:
    if not isinstance(unit_ends, Tensor):
        raise TypeError(f"{op}: unit_ends must be a tensor, got {type(unit_ends).__name__}")
    expected = [len(weights) - 1, z.shape[1]]
    if (
        list(unit_ends.shape) != expected
        or unit_ends.dtype != torch.int64
        or unit_ends.device != z.device
    ):
        raise ValueError(
            f"{op}: unit_ends is {unit_ends.dtype} of shape {list(unit_ends.shape)} on "
            f"{unit_ends.device}, expected torch.int64 of shape {expected} on {z.device}"
        )
    # Values on a GPU are not looked at: that would stop the host. The kernels stay within bounds.
    if unit_ends.device.type != "cpu" or torch.compiler.is_compiling():
        return
    widths = unit_ends.new_tensor([weight.shape[0] for weight in weights[:-1]])
    if bool((unit_ends.diff(dim=1) < 0).any() | (unit_ends < 0).any()) or bool(
        (unit_ends > widths[:, None]).any()
    ):
        raise ValueError(
            f"{op}: each row of unit_ends must ascend from 0 or more to at most the layer's width, "
            f"{widths.tolist()}"
        )


def _reference(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    unit_ends: Tensor,
    context_term: Tensor | None,
    settings: _Settings,
) -> tuple[Tensor, Tensor]:
    """D passes of the masked network, each of which settles one coordinate and the units of its
    degree. Until then both are zero, so that nothing that is not finite stands behind a mask."""
    y = z.to(accumulation_dtype(z))
    widths = [weight.shape[0] for weight in weights[:-1]]
    masks, degrees = made_masks(unit_ends, widths, 2), _degrees(unit_ends, widths)
    weights = [weight.where(mask, 0.0) for weight, mask in zip(weights, masks, strict=True)]
    x, log_det = torch.zeros_like(y), y.new_zeros(y.shape[0])
    hidden = [y.new_zeros(y.shape[0], width) for width in widths]
    for i in range(z.shape[1]):
        known = x
        for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
            units = functional.linear(known, weight, bias)
            if layer == 0 and context_term is not None:
                units = units + context_term
            units = activate(units, settings.kind, settings.negative_slope)
            known = hidden[layer] = torch.where(degrees[layer] == i, units, hidden[layer])
        shifts, scales = functional.linear(known, weights[-1], biases[-1]).chunk(2, 1)
        m, s = shifts[:, i], scales[:, i]
        s = s if settings.bound == math.inf else bounded(s, settings.bound)
        if settings.scale == _SCALES["gate"]:
            x[:, i] = m + (y[:, i] - m) * (1 + torch.exp(-s))
            log_det = log_det + functional.softplus(-s)
        else:
            x[:, i] = y[:, i] * torch.exp(s) + m
            log_det = log_det + s
    return x.to(z.dtype), log_det


@torch.library.register_fake("gencore::made_inverse")
def _(z: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape), z.new_empty(z.shape[:1], dtype=accumulation_dtype(z))
