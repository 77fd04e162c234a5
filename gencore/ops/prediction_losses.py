"""What a predicted image is compared with its target by: the pixels, and their differences."""

from typing import NamedTuple

from torch import Tensor

from gencore.ops._support.checks import accumulation_dtype, check_like, check_state, index

__all__ = ["PredictionLosses", "prediction_losses"]


class PredictionLosses(NamedTuple):
    """Both losses of each image, [N], in float32, or float64 for float64 images."""

    lp: Tensor
    """Σ |y − ŷ|^p over channels and pixels."""
    gradient_difference: Tensor
    """Σ ||∇y| − |∇ŷ||^α over channels, pixels and both directions."""


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
        alpha: α, an integer of at least 1.

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
    p, alpha = index(op, "p", p), index(op, "alpha", alpha)
    if p not in (1, 2):
        raise ValueError(f"{op}: p is {p}, expected 1 or 2")
    if alpha < 1:
        raise ValueError(f"{op}: alpha is {alpha}, expected at least 1")
    return PredictionLosses(*_reference(prediction, target, p, alpha))


def _reference(prediction: Tensor, target: Tensor, p: int, alpha: int) -> tuple[Tensor, Tensor]:
    """``prediction_losses`` in pure PyTorch."""
    wide = accumulation_dtype(prediction)
    prediction, target = prediction.to(wide), target.to(wide)
    differences = sum(
        _power(target.diff(dim=dim).abs() - prediction.diff(dim=dim).abs(), alpha).sum((1, 2, 3))
        for dim in (2, 3)
    )
    return _power(target - prediction, p).sum((1, 2, 3)), differences


def _power(value: Tensor, exponent: int) -> Tensor:
    """|value|^exponent, whose second derivative is right at 0 where it exists."""
    return value.pow(exponent) if exponent % 2 == 0 else value.abs().pow(exponent)
