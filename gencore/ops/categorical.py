"""The log-likelihood of categorical pixels, from the logits of all levels."""

from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_state
from gencore.ops._support.pixels import check_levels, check_pixels

__all__ = ["categorical_log_prob"]

_ops = torch.ops.gencore


def categorical_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    r"""The log-probability of each pixel under a softmax over the levels of each channel.

    .. math:: \log p(x) = \sum_c \Big(\ell_{c,x_c} - \log \sum_{v<K} e^{\ell_{c,v}}\Big)

    Neither a one-hot of the pixels nor a copy of the logits is made. Differentiable in ``logits``,
    to any order.

    Args:
        logits: ℓ [N, C·K, H, W], those of channel c in the block from c·K on; float64, float32,
            bfloat16 or float16. Half types are computed in float32.
        x: levels 0 … K − 1, [N, C, H, W], uint8 or int64.

    Returns:
        [N, H, W], in nats, summed over the channels; in float32, or float64 for float64.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes or devices that do not fit, and on the CPU for a level outside of
            0 … K − 1. On CUDA, where looking at them would stop the host, such a pixel gives NaN.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (2.85).

    Example:
        >>> import torch
        >>> from gencore.ops import categorical_log_prob
        >>> x = torch.tensor([[[[3, 255]]]], dtype=torch.uint8)
        >>> categorical_log_prob(torch.zeros(1, 256, 1, 2), x)
        tensor([[[-5.5452, -5.5452]]])
    """
    op = "categorical_log_prob"
    check_state(op, logits, "logits")
    channels = check_pixels(op, logits, x, "logits")
    if channels == 0 or logits.shape[1] % channels or logits.shape[1] == 0:
        raise ValueError(
            f"{op}: logits has {logits.shape[1]} channels; expected a multiple of the {channels} "
            "channels of x"
        )
    check_levels(op, x, logits.shape[1] // channels)
    if state.reference:
        return _reference(logits, x)[0]
    result: Tensor = _log_prob(logits, x)[0]
    return result


def _reference(logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """``categorical_log_prob`` in pure PyTorch, and the log-normalisers [N, C, H, W]."""
    blocks = logits.to(accumulation_dtype(logits)).unflatten(1, (x.shape[1], -1))
    index = x.long().unsqueeze(2)
    outside = (index < 0) | (index >= blocks.shape[2])
    log_normalizer = blocks.logsumexp(2)
    chosen = blocks.gather(2, index.masked_fill(outside, 0)) - log_normalizer.unsqueeze(2)
    return chosen.masked_fill(outside, torch.nan).sum((1, 2)), log_normalizer


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, grad: Tensor, normalizer_grad: Tensor) -> tuple[Tensor | None, ...]:
    return _backward(grad, normalizer_grad, *ctx.saved_tensors), None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _differentiate_backward(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative, in which the log-normaliser is what it is
    a function of."""
    *operands, x = ctx.saved_tensors

    def reference_backward(grad: Tensor, normalizer_grad: Tensor, logits: Tensor) -> Any:
        return gradients(_reference(logits, x), (logits,), (grad, normalizer_grad))

    found = gradients_of_reference(reference_backward, operands, [tangent])
    return *found, None, None


_log_prob = differentiable(_ops.categorical_log_prob.default, _differentiate, _setup)
_backward = differentiable(
    _ops.categorical_log_prob_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::categorical_log_prob")
def _(logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = accumulation_dtype(logits)
    n, channels, height, width = x.shape
    return (
        logits.new_empty((n, height, width), dtype=dtype),
        logits.new_empty((n, channels, height, width), dtype=dtype),
    )


@torch.library.register_fake("gencore::categorical_log_prob_backward")
def _(grad: Tensor, normalizer_grad: Tensor, logits: Tensor, *rest: Tensor) -> Tensor:
    return torch.empty_like(logits)
