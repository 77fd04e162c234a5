"""Causal convolution of images in raster order, with groups of channels."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from gencore.choices import check_choice
from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import check_state, index
from gencore.ops.conv_network import autocast

__all__ = ["MaskType", "live_taps", "masked_conv2d"]

MaskType = Literal["A", "B"]

_MIN_REACH = 16  # pixels, that taps may reach in any image

_ops = torch.ops.gencore


class Settings(NamedTuple):
    """The numbers of the family's schemas, in their order there."""

    inclusive: bool  # mask B
    channel_groups: int
    dilation: int


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask: MaskType,
    channel_groups: int = 1,
    dilation: int = 1,
) -> Tensor:
    r"""A convolution whose outputs see the pixels before their own in raster order.

    .. math:: y_o(p) = b_o + \sum_{q < p} \sum_i w_{o,i}(q - p)\, x_i(q)
              + \sum_{i:\, g(i) \lhd g(o)} w_{o,i}(0)\, x_i(p)

    with pixels in raster order, row by row and from left to right, w zero where there is no tap,
    and g the group of a channel: the channels are ``channel_groups`` blocks of equal size, and
    channel c of C is in group ⌊cG/C⌋. At the pixel itself an output sees the groups before its own
    (mask A, ◁ is <), or its own one too (mask B, ◁ is ≤). Red, green and blue are three groups.
    Zeros lie around the image, which keeps its size.

    Nothing is written into ``weight``, and the gradient of a tap that its output does not see is
    exactly zero. Differentiable in all tensors, to any order.

    The kernel runs on a CPU, in float32 and float64, and works on live taps only; gradients are the
    same bit for bit for any number of threads. Elsewhere (on a GPU, under autocast, in half
    precision, where the taps reach far beyond the image) it is torch's own convolution without the
    rows of taps below the centre.

    Args:
        x: images [N, I, H, W], float64, float32, bfloat16 or float16.
        weight: w [O, I, k, k] with an odd k, of the dtype of ``x``.
        bias: b [O], of the dtype of ``x``; ``None`` for none.
        mask: "A" or "B".
        channel_groups: G, which divides both numbers of channels.
        dilation: pixels from one tap to the next.

    Returns:
        y [N, O, H, W], channels last in memory where those of ``x`` are.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.4.

    Example:
        >>> import torch
        >>> from gencore.ops import masked_conv2d
        >>> x, weight = torch.ones(1, 1, 2, 3), torch.ones(1, 1, 3, 3)
        >>> masked_conv2d(x, weight, mask="A")  # how many neighbours come before each pixel
        tensor([[[[0., 1., 1.],
                  [2., 4., 3.]]]])
        >>> masked_conv2d(x, weight, mask="B")
        tensor([[[[1., 2., 2.],
                  [3., 5., 4.]]]])
    """
    op = "masked_conv2d"
    check_state(op, x)
    check_choice(op, "mask", mask, get_args(MaskType))
    groups = index(op, "channel_groups", channel_groups)
    dilation = index(op, "dilation", dilation)
    for name, tensor in (("weight", weight), ("bias", x if bias is None else bias)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
    x, (weight,), biases = autocast(x, [weight], [] if bias is None else [bias])
    bias = biases[0] if biases else None
    _check(op, x, weight, bias, groups, dilation)
    settings = Settings(mask == "B", groups, dilation)
    if state.reference:
        return _reference(x, weight, bias, settings)
    if not _has_kernel(x, weight, dilation):
        return _without_rows_below(x, weight, bias, settings)
    y: Tensor = _conv(x, weight, bias, *settings)
    return y


def live_taps(weight: Tensor, mask: MaskType, channel_groups: int = 1) -> Tensor:
    """The elements of ``weight`` [O, I, k, k] that :func:`masked_conv2d` uses, as booleans.

    Example:
        >>> import torch
        >>> from gencore.ops.masked_conv2d import live_taps
        >>> live_taps(torch.empty(1, 1, 3, 3), "A").int()
        tensor([[[[1, 1, 1],
                  [1, 0, 0],
                  [0, 0, 0]]]], dtype=torch.int32)
    """
    return _live_taps(weight, Settings(mask == "B", channel_groups, 1))


def _live_taps(weight: Tensor, settings: Settings) -> Tensor:
    inclusive, groups, _ = settings
    outputs, inputs, side = weight.shape[:3]
    taps = torch.arange(side * side, device=weight.device).view(side, side)
    centre = side * side // 2
    of_output = torch.arange(outputs, device=weight.device) // (outputs // groups)
    of_input = torch.arange(inputs, device=weight.device) // (inputs // groups)
    behind = of_output[:, None] - of_input  # how many groups the input's is before the output's
    seen = (behind >= (0 if inclusive else 1))[:, :, None, None]
    return (taps < centre) | ((taps == centre) & seen)


def _check(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, dilation: int
) -> None:
    if x.dim() != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [N, I, H, W]")
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    for name, tensor in tensors.items():
        if tensor.dtype != x.dtype:
            raise TypeError(f"{op}: {name} is {tensor.dtype}, x is {x.dtype}; they must be equal")
        if tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, x on {x.device}")
    inputs = x.shape[1]
    outputs, side = (weight.shape[0], weight.shape[-1]) if weight.dim() == 4 else (0, 0)
    if weight.shape != (outputs, inputs, side, side) or side % 2 == 0 or 0 in (inputs, outputs):
        raise ValueError(
            f"{op}: weight has shape {list(weight.shape)}, expected [O, I, k, k] with an odd k and "
            f"I = {inputs} for x of shape {list(x.shape)}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{op}: bias has shape {list(bias.shape)}, expected [{outputs}]")
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(
            f"{op}: channel_groups is {groups}, expected a positive number that divides the "
            f"{inputs} input channels and the {outputs} output channels"
        )
    if dilation < 1:
        raise ValueError(f"{op}: dilation is {dilation}, expected at least 1")


def _has_kernel(x: Tensor, weight: Tensor, dilation: int) -> bool:
    # Where the taps reach further, most of what the kernel keeps in cache would be zeros.
    nearby = weight.shape[-1] // 2 * dilation <= max(_MIN_REACH, *x.shape[2:])
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and nearby


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings) -> Tensor:
    """``masked_conv2d`` as a convolution with a masked weight."""
    weight = weight.where(_live_taps(weight, settings), 0.0)
    if 0 in x.shape[2:]:
        return _without_pixels(x, weight, bias)
    padding = weight.shape[-1] // 2 * settings.dilation
    return functional.conv2d(x, weight, bias, padding=padding, dilation=settings.dilation)


def _without_rows_below(
    x: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings
) -> Tensor:
    """torch's convolution with the rows of taps up to the centre; those below it are all dead."""
    rows = weight.shape[-1] // 2
    weight = weight.where(_live_taps(weight, settings), 0.0)[:, :, : rows + 1]
    if 0 in x.shape[2:]:
        return _without_pixels(x, weight, bias)
    reach = rows * settings.dilation
    x = functional.pad(x, (0, 0, reach, 0))
    return functional.conv2d(x, weight, bias, padding=(0, reach), dilation=settings.dilation)


def _without_pixels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The result for images that conv2d refuses: no element, but a graph."""
    y = x.sum(1, keepdim=True) + weight.sum((1, 2, 3))[:, None, None]
    return y if bias is None else y + bias[:, None, None]


# Derivatives of the compiled operators.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.settings = Settings(*inputs[3:])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    grads = _backward(grad, *ctx.saved_tensors, *ctx.settings, *needs)
    return *(g if need else None for g, need in zip(grads, needs, strict=True)), *(None,) * 3


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings, ctx.needs = Settings(*inputs[3:6]), inputs[6:]


def _differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(grad: Tensor, x: Tensor, weight: Tensor) -> list[Tensor | None]:
        bias = weight.new_zeros(weight.shape[0]).requires_grad_()
        y = _reference(x, weight, bias, ctx.settings)
        operands = zip((x, weight, bias), ctx.needs, strict=True)
        return gradients([y], [t if need else None for t, need in operands], [grad])

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * 6


_conv = differentiable(_ops.masked_conv2d.default, _differentiate, _setup)
_backward = differentiable(
    _ops.masked_conv2d_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::masked_conv2d")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    return _images_like(x, weight.shape[0])


@torch.library.register_fake("gencore::masked_conv2d_backward")
def _(grad: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    needs_x, needs_weight, needs_bias = settings[3:]
    return (
        _images_like(x, x.shape[1]) if needs_x else x.new_empty(0),
        x.new_empty(weight.shape if needs_weight else (0,)),
        x.new_empty(weight.shape[:1] if needs_bias else (0,)),
    )


def _images_like(x: Tensor, channels: int) -> Tensor:
    """A result in the layout of ``x``, as the kernel makes it."""
    images, _, height, width = x.shape
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.new_empty(images, channels, height, width)
    return x.new_empty(images, height, width, channels).permute(0, 3, 1, 2)
