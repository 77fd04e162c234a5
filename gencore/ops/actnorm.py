"""The per-channel affine map of Glow."""

from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable, leaf, ordinary
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_state

__all__ = ["actnorm"]

_ops = torch.ops.gencore


def actnorm(
    x: Tensor, log_scale: Tensor, bias: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    r"""An affine map of each channel, with its log-determinant; forward and back in one pass each.

    .. math:: y_c = e^{s_c} x_c + b_c, \qquad \log\det = P \textstyle\sum_c s_c

    with P positions a channel; ``inverse`` is x_c = (y_c − b_c)·exp(−s_c), whose log-determinant is
    the negative one. Differentiable in ``x``, ``log_scale`` and ``bias``, to any order, in both
    directions. The gradients of the parameters are summed in float64, in an order that depends on
    the shape and the kind of device alone.

    Args:
        x: [N, C, ...], float64, float32, bfloat16 or float16; y where ``inverse``. Half types are
            computed in float32 and rounded once.
        log_scale: s [C]; a floating dtype, brought to float32 (float64 for float64 ``x``).
        bias: b [C], likewise.
        inverse: undo the map instead.

    Returns:
        (y like ``x``, log_det [N] in float32, or float64 for float64).

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes or devices that do not fit.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018,
        table 1.

    Example:
        >>> import torch
        >>> from gencore.ops import actnorm
        >>> x, bias = torch.tensor([[1.0, 2.0]]), torch.tensor([0.0, 1.0])
        >>> y, log_det = actnorm(x, torch.tensor([2.0, 3.0]).log(), bias)
        >>> y, log_det
        (tensor([[2., 7.]]), tensor([1.7918]))
    """
    op = "actnorm"
    check_state(op, x)
    if x.dim() < 2:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, C, ...]")
    log_scale = _parameter(op, "log_scale", log_scale, x)
    bias = _parameter(op, "bias", bias, x)
    if not isinstance(inverse, bool):
        raise TypeError(f"{op}: inverse must be a bool, got {type(inverse).__name__}")
    if state.reference:
        return _reference(x, log_scale, bias, inverse)
    y, log_det = _actnorm(x, log_scale, bias, inverse)
    return y, log_det


def actnorm_backward_from_output(
    y: Tensor, log_scale: Tensor, bias: Tensor, grad_y: Tensor, grad_log_det: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The backward pass of :func:`actnorm` from its output, as a reversible network needs it.

    Returns:
        (x, ∂L/∂x, ∂L/∂log_scale, ∂L/∂bias), without a graph; the last two in the dtypes of their
        parameters.
    """
    with torch.no_grad():
        x, _ = actnorm(y, log_scale, bias, inverse=True)
        s, b = (t.to(accumulation_dtype(y)) for t in (log_scale, bias))
        if state.reference:
            with torch.inference_mode(False), torch.enable_grad():
                h, s, b = leaf(x), leaf(s), leaf(b)
                outputs = _reference(h, s, b, inverse=False)
                grad_x, grad_scale, grad_bias = torch.autograd.grad(
                    outputs, (h, s, b), (ordinary(grad_y), ordinary(grad_log_det))
                )
        else:
            grad_x, grad_scale, grad_bias = _backward(grad_y, grad_log_det, x, s, b, False)
        return x, grad_x, grad_scale.to(log_scale.dtype), grad_bias.to(bias.dtype)


def _parameter(op: str, name: str, value: Tensor, x: Tensor) -> Tensor:
    """One entry a channel, in the accumulation dtype."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{op}: {name} is {value.dtype}, expected a floating dtype")
    if value.shape != x.shape[1:2]:
        raise ValueError(
            f"{op}: {name} has shape {list(value.shape)}, expected one entry a channel: "
            f"{list(x.shape[1:2])}"
        )
    if value.device != x.device:
        raise ValueError(f"{op}: {name} is on {value.device}, x on {x.device}")
    return value.to(accumulation_dtype(x))


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """[C] as what broadcasts to x [N, C, ...]."""
    return values.view(1, -1, *(1,) * (x.dim() - 2))


def _over_channels(values: Tensor) -> Tensor:
    """The sum over all but the channels, [C]."""
    return values.sum([k for k in range(values.dim()) if k != 1])


def _positions(x: Tensor) -> int:
    positions = 1
    for size in x.shape[2:]:
        positions *= size
    return positions


def _reference(x: Tensor, log_scale: Tensor, bias: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """``actnorm`` in pure PyTorch."""
    scale, shift = _by_channel(log_scale, x), _by_channel(bias, x)
    h = x.to(log_scale.dtype)
    y = (h - shift) * torch.exp(-scale) if inverse else h * torch.exp(scale) + shift
    log_det = (_positions(x) * log_scale.double().sum()).to(log_scale.dtype).expand(x.shape[0])
    return y.to(x.dtype), -log_det if inverse else log_det


# Derivatives. With the sign σ = ±1 of the direction, e = exp(σ s) and h = x, or x − b in the
# inverse, the gradients are e·g, σ (e Σ g h + P Σ g_log_det) and Σ g, or −e Σ g in the inverse.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.inverse = inputs[3]


def _differentiate(ctx: Any, grad_out: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grad_out, grad_log_det, *ctx.saved_tensors, ctx.inverse), None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], *inputs[2:5])
    ctx.inverse = inputs[5]


def _differentiate_backward(
    ctx: Any, x_cotangent: Tensor, scale_cotangent: Tensor, bias_cotangent: Tensor
) -> tuple[Tensor | None, ...]:
    grad, x, log_scale, bias = ctx.saved_tensors
    sign = -1.0 if ctx.inverse else 1.0
    g, u = grad.to(log_scale.dtype), x_cotangent.to(log_scale.dtype)
    e = _by_channel(torch.exp(sign * log_scale), x)
    v, w = _by_channel(scale_cotangent, x), _by_channel(bias_cotangent, x)
    h = x.to(log_scale.dtype)
    if ctx.inverse:
        h, w = h - _by_channel(bias, x), -e * w
    for_grad = e * (u + sign * v * h) + w
    for_log_det = sign * _positions(x) * scale_cotangent.sum().expand(x.shape[0])
    for_x = sign * v * g * e
    for_scale = _over_channels(e * g * (sign * u + v * h))
    for_bias = torch.zeros_like(bias)
    if ctx.inverse:
        for_scale = for_scale - _over_channels(w * g)
        for_bias = -_over_channels(for_x)
    return for_grad.to(grad.dtype), for_log_det, for_x.to(x.dtype), for_scale, for_bias, None


_actnorm = differentiable(_ops.actnorm.default, _differentiate, _setup)
_backward = differentiable(_ops.actnorm_backward.default, _differentiate_backward, _backward_setup)


# Shapes of their results.


@torch.library.register_fake("gencore::actnorm")
def _(x: Tensor, log_scale: Tensor, bias: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[0], dtype=accumulation_dtype(x))


@torch.library.register_fake("gencore::actnorm_backward")
def _(
    grad_out: Tensor, grad_log_det: Tensor, x: Tensor, log_scale: Tensor, bias: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(log_scale), torch.empty_like(bias)
