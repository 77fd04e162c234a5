"""Small convolutional networks, a whole image at a time in cache."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state, transforming
from gencore.ops._support.checks import check_native_device, check_state
from gencore.ops.mlp import ActivationName, activate, activation_kind, check_context_term

__all__ = ["conv_network"]

_MAX_LAYERS, _MAX_SIDE = 4, 7  # kMaxConvLayers, kMaxConvSide of csrc/arguments/conv_network.h
_WIDEST = 256  # channels, beyond which a library's convolutions are not slower

_ops = torch.ops.gencore


class Settings(NamedTuple):
    """The numbers of the family's schemas, in their order there: a network's sizes and
    activation."""

    channels: list[int]
    sides: list[int]
    kind: int
    negative_slope: float


def conv_network(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    activation: ActivationName = "relu",
    negative_slope: float = 0.01,
    context_term: Tensor | None = None,
) -> Tensor:
    r"""A few convolutions with an activation between each two, an image at a time in cache.

    .. math:: h_0 = x, \qquad h_l = \sigma(W_l * h_{l-1} + b_l), \qquad y = W_L * h_{L-1} + b_L

    with ∗ a cross-correlation that keeps the size by padding with zeros. Made for the networks of
    image flows, whose few channels leave a library's convolutions waiting for memory: hidden maps
    never leave the cache, and the backward pass computes them again, so that only ``x`` and the
    parameters are kept. Differentiable in all tensors, to any order.

    The kernel runs on a CPU, in float32 and float64, for layers of at most 256 channels and an
    image for every two threads. Elsewhere (on a GPU, under autocast, in half precision, for wide
    networks) these are torch's own convolutions.

    Args:
        x: [N, C₀, H, W].
        weights: W₁ [C₁, C₀, k₁, k₁], …, W_L [C_L, C_{L−1}, k_L, k_L], one to four, with odd sides
            k of at most 7.
        biases: b₁ [C₁], …, b_L [C_L].
        activation: σ: "relu", "leaky_relu", "silu", "softplus" or "tanh".
        negative_slope: slope of the leaky ReLU below zero.
        context_term: [N, C₁], added to b₁, a row an image.

    Returns:
        y [N, C_L, H, W], contiguous.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, §5, for
        the network 3×3, 1×1, 3×3.

    Example:
        >>> import torch
        >>> from gencore.ops import conv_network
        >>> weights = [torch.ones(4, 1, 3, 3), torch.ones(2, 4, 1, 1)]
        >>> conv_network(torch.ones(1, 1, 2, 2), weights, [torch.zeros(4), torch.zeros(2)])
        tensor([[[[16., 16.],
                  [16., 16.]],
        <BLANKLINE>
                 [[16., 16.],
                  [16., 16.]]]])
    """
    op = "conv_network"
    check_state(op, x)
    x, weights, biases = autocast(x, weights, biases)
    if isinstance(context_term, Tensor):  # else refused below
        context_term = autocast(context_term)[0]
    settings = _check(op, x, weights, biases, activation, negative_slope)
    check_context_term(op, x, context_term, settings.channels[1])
    if state.reference or _too_few(x) or not has_kernel(x, settings.channels):
        return _reference(x, weights, biases, context_term, settings)
    check_native_device(op, x)
    return run_kernel(x, weights, biases, context_term, settings)


def run_kernel(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    context_term: Tensor | None,
    settings: Settings,
) -> Tensor:
    """:func:`conv_network` of arguments that are checked."""
    pairs = zip(weights, biases, strict=True)
    parameters = torch.cat([tensor.reshape(-1) for pair in pairs for tensor in pair])
    y: Tensor = _network(x, parameters, context_term, *settings)
    return y


def autocast(
    x: Tensor, weights: Sequence[Tensor] = (), biases: Sequence[Tensor] = ()
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """The operands in the precision that autocast asks for, where it is on."""
    device = x.device.type
    if device == "meta" or x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return x, weights, biases
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]


def channels_last(x: Tensor) -> Tensor:
    """``x`` in the layout that convolutions on a CPU compute in; torch.func has no rule for it."""
    return x if transforming() else x.contiguous(memory_format=torch.channels_last)


def _too_few(images: Tensor) -> bool:
    """Whether most threads would have none."""
    return not torch.compiler.is_compiling() and 0 < 2 * images.shape[0] < torch.get_num_threads()


def has_kernel(x: Tensor, channels: Sequence[int]) -> bool:
    """Whether the kernel takes this input and so many channels before and after each layer."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and len(channels) <= _MAX_LAYERS + 1
        and max(channels) <= _WIDEST
    )


def _check(
    op: str,
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    negative_slope: float,
) -> Settings:
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, H, W]")
    if len(weights) != len(biases) or not 1 <= len(weights) <= _MAX_LAYERS:
        raise ValueError(
            f"{op}: got {len(weights)} weights and {len(biases)} biases, expected as many of both, "
            f"1 to {_MAX_LAYERS}"
        )
    channels, sides = [x.shape[1]], []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        for name, tensor in (("weight", weight), ("bias", bias)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{op}: a {name} must be a tensor, got {type(tensor).__name__}")
            if tensor.device != x.device or tensor.dtype != x.dtype:
                raise ValueError(
                    f"{op}: layer {layer}'s {name} is {tensor.dtype} on {tensor.device}, "
                    f"x is {x.dtype} on {x.device}"
                )
        outputs, side = (weight.shape[0], weight.shape[-1]) if weight.dim() == 4 else (0, 0)
        if (
            weight.shape != (outputs, channels[-1], side, side)
            or bias.shape != (outputs,)
            or not outputs
            or not 1 <= side <= _MAX_SIDE
            or side % 2 == 0
        ):
            raise ValueError(
                f"{op}: layer {layer} has a weight of shape {list(weight.shape)} and a bias of "
                f"shape {list(bias.shape)}, expected [C, {channels[-1]}, k, k] with an odd k of at "
                f"most {_MAX_SIDE}, and [C]"
            )
        channels.append(outputs)
        sides.append(side)
    return Settings(channels, sides, *activation_kind(op, activation, negative_slope))


def _reference(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    context_term: Tensor | None,
    settings: Settings,
) -> Tensor:
    if x.device.type == "cpu":
        x = channels_last(x)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if layer:
            x = activate(x, settings.kind, settings.negative_slope)
        if 0 in x.shape[2:]:  # which conv2d refuses; no element, but a graph
            x = x.sum(1, keepdim=True) + weight.sum() + bias[:, None, None]
        else:
            x = functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        if layer == 0 and context_term is not None:
            x = x + context_term[:, :, None, None]
    return x.contiguous()


# Derivatives of the compiled operators.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = Settings(*inputs[3:])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, parameters, term = ctx.saved_tensors
    grad_x, grad_parameters, grad_term = _backward(
        grad, x, parameters, term, *ctx.settings, ctx.needs_input_grad[0]
    )
    grads = (
        grad_x if ctx.needs_input_grad[0] else None,
        grad_parameters,
        None if term is None else grad_term,
    )
    return *grads, *(None,) * len(ctx.settings)


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings, ctx.needs_x = Settings(*inputs[4:8]), inputs[8]


def _differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(
        grad: Tensor, x: Tensor, parameters: Tensor, term: Tensor | None
    ) -> list[Tensor | None]:
        y = _reference(x, *_layers(parameters, ctx.settings), term, ctx.settings)
        return gradients([y], [x if ctx.needs_x else None, parameters, term], [grad])

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * (len(ctx.settings) + 1)


def _layers(parameters: Tensor, settings: Settings) -> tuple[list[Tensor], list[Tensor]]:
    weights, biases, at = [], [], 0
    for (inputs, outputs), side in zip(pairwise(settings.channels), settings.sides, strict=True):
        size = outputs * inputs * side * side
        weights.append(parameters[at : at + size].view(outputs, inputs, side, side))
        biases.append(parameters[at + size : at + size + outputs])
        at += size + outputs
    return weights, biases


_network = differentiable(_ops.conv_network.default, _differentiate, _setup)
_backward = differentiable(
    _ops.conv_network_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::conv_network")
def _(x: Tensor, parameters: Tensor, term: Tensor | None, channels: list[int], *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], channels[-1], *x.shape[2:])


@torch.library.register_fake("gencore::conv_network_backward")
def _(
    grad: Tensor,
    x: Tensor,
    parameters: Tensor,
    term: Tensor | None,
    channels: list[int],
    *settings: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    *_, needs_x = settings
    return (
        x.new_empty(x.shape if needs_x else (0,)),
        torch.empty_like(parameters),
        x.new_empty(0 if term is None else x.shape[0], channels[1]),
    )
