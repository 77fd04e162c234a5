"""What a predicted image is compared with its target by: the pixels, and their differences."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_like, check_state, index

__all__ = ["PredictionLosses", "prediction_losses"]

_ops = torch.ops.gencore


class PredictionLosses(NamedTuple):
    """Both losses of each image, [N], in float32, or float64 for float64 images."""

    lp: Tensor
    """The Lᵖ loss."""
    gradient_difference: Tensor
    """The gradient difference loss."""


def prediction_losses(
    prediction: Tensor, target: Tensor, *, p: int = 1, alpha: int = 1
) -> PredictionLosses:
    r"""The Lᵖ loss and the gradient difference loss of predicted images, in one pass.

    .. math:: \mathrm{lp}_n = \sum_{c,i,j} |y_{cij} - \hat y_{cij}|^p, \qquad
              \mathrm{gd}_n = \sum_{c,i,j}
              \bigl| |y_{cij} - y_{c,i-1,j}| - |\hat y_{cij} - \hat y_{c,i-1,j}| \bigr|^\alpha +
              \bigl| |y_{cij} - y_{c,i,j-1}| - |\hat y_{cij} - \hat y_{c,i,j-1}| \bigr|^\alpha

    with differences only where both pixels exist. These are sums, not means. The gradient
    difference does not see a constant that is added to an image, nor the image's sign, so that it
    is used together with an Lᵖ loss. Differentiable in both images, to any order; the derivative of
    an absolute value is 0 where it vanishes.

    Args:
        prediction: ŷ, images [N, C, H, W], float64, float32, bfloat16 or float16.
        target: y, like ``prediction``.
        p: 1 or 2.
        alpha: α, an integer of at least 1; or 0, which leaves the gradient difference out: it is 0.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, eqs. (4.1) and (4.5).

    Example:
        >>> import torch
        >>> from gencore.ops import prediction_losses
        >>> edge = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> prediction_losses(edge.flip(-1), edge)  # every pixel is wrong, and no edge
        PredictionLosses(lp=tensor([4.]), gradient_difference=tensor([0.]))
    """
    op = "prediction_losses"
    check_state(op, prediction, "prediction")
    check_like(op, prediction, target, "target", "prediction")
    if prediction.dim() != 4:
        raise ValueError(
            f"{op}: prediction has shape {list(prediction.shape)}, expected [N, C, H, W]"
        )
    if prediction.shape[2] * prediction.shape[3] >= 2**31:
        raise ValueError(
            f"{op}: prediction has shape {list(prediction.shape)}, expected fewer than 2**31 pixels"
        )
    p, alpha = index(op, "p", p), index(op, "alpha", alpha)
    if p not in (1, 2):
        raise ValueError(f"{op}: p is {p}, expected 1 or 2")
    if alpha >= 2**31:
        raise ValueError(f"{op}: alpha is {alpha}, expected less than 2**31")
    if state.reference:
        return PredictionLosses(*_reference(prediction, target, p, alpha))
    return PredictionLosses(*_losses(prediction, target, p, alpha))


def _reference(prediction: Tensor, target: Tensor, p: int, alpha: int) -> tuple[Tensor, Tensor]:
    """``prediction_losses`` in pure PyTorch."""
    wide = accumulation_dtype(prediction)
    prediction, target = prediction.to(wide), target.to(wide)
    lp = _power(target - prediction, p).sum((1, 2, 3))
    if alpha == 0:
        return lp, torch.zeros_like(lp)
    down, across = (
        _power(target.diff(dim=dim).abs() - prediction.diff(dim=dim).abs(), alpha).sum((1, 2, 3))
        for dim in (2, 3)
    )
    return lp, down + across


def _power(value: Tensor, exponent: int) -> Tensor:
    """|value|^exponent, whose second derivative is right at 0 where it exists."""
    return value.pow(exponent) if exponent % 2 == 0 else value.abs().pow(exponent)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    prediction, target, *ctx.exponents = inputs
    ctx.save_for_backward(prediction, target)


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    images = ctx.saved_tensors
    # Both losses are symmetric in the two images.
    found = [
        _backward(*grads, *pair, *ctx.exponents) if need else None
        for pair, need in zip((images, images[::-1]), ctx.needs_input_grad, strict=False)
    ]
    return *found, None, None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, p, alpha = inputs
    ctx.exponents = (p, alpha)
    ctx.save_for_backward(*operands)


def _differentiate_backward(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(
        lp_grad: Tensor, difference_grad: Tensor, x: Tensor, other: Tensor
    ) -> list[Tensor | None]:
        losses = _reference(x, other, *ctx.exponents)
        return gradients(losses, [x], [lp_grad, difference_grad])

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, [tangent])
    return *found, None, None


_losses = differentiable(_ops.prediction_losses.default, _differentiate, _setup)
_backward = differentiable(
    _ops.prediction_losses_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::prediction_losses")
def _(prediction: Tensor, target: Tensor, p: int, alpha: int) -> tuple[Tensor, Tensor]:
    wide = accumulation_dtype(prediction)
    lp, difference = (prediction.new_empty(prediction.shape[0], dtype=wide) for _ in range(2))
    return lp, difference


@torch.library.register_fake("gencore::prediction_losses_backward")
def _(
    lp_grad: Tensor, gradient_difference_grad: Tensor, x: Tensor, other: Tensor, p: int, alpha: int
) -> Tensor:
    return torch.empty_like(x)
