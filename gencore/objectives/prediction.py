"""Losses of a predicted image: its pixels' distance, and that of their differences."""

from torch import Tensor

from gencore.ops import prediction_losses

__all__ = ["gradient_difference_loss", "lp_loss"]


def lp_loss(prediction: Tensor, target: Tensor, p: int) -> Tensor:
    r"""The Lᵖ loss of each image (4.1), a sum over channels and pixels.

    .. math:: \mathcal L_p(\hat y, y) = \lVert \hat y - y \rVert_p^p = \sum_{c,i,j}
              |\hat y_{cij} - y_{cij}|^p

    To minimise it is to maximise a likelihood (§2.1.1). With p = 2 that of a normal distribution of
    unit variance about ŷ, −log q(y) = ½ ‖y − ŷ‖² + const, whose best ŷ is the mean of y. With
    p = 1 that of a Laplace distribution about ŷ, of scale b: −log q(y) = ‖y − ŷ‖₁/b + const, where
    b = 1/√2 gives unit variance; its best ŷ is a median of y. Of two equally likely values every
    point between them is one.

    Args:
        prediction: ŷ, [N, C, H, W], float64, float32, bfloat16 or float16.
        target: y, like ``prediction``.
        p: 1 or 2.

    Returns:
        [N], in float32, or float64 for float64 images.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Example:
        >>> import torch
        >>> lp_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0), 2)
        tensor([36.])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §2.1.1 and §4.2.
    """
    return prediction_losses(prediction, target, p=p, alpha=0).lp


def gradient_difference_loss(prediction: Tensor, target: Tensor, alpha: int = 1) -> Tensor:
    r"""How much the edges of each image differ in strength (4.5), a sum over both directions.

    .. math:: \mathcal L_{\mathrm{gdl}}(\hat y, y) = \sum_{c,i,j}
              \bigl| |y_{cij} - y_{c,i-1,j}| - |\hat y_{cij} - \hat y_{c,i-1,j}| \bigr|^\alpha +
              \bigl| |y_{cij} - y_{c,i,j-1}| - |\hat y_{cij} - \hat y_{c,i,j-1}| \bigr|^\alpha

    It is 0 for y + c, −y and 1 − y also, so that it is added to :func:`lp_loss`; both together come
    from one call of :func:`gencore.ops.prediction_losses`. With α = 1 a blurred edge costs more
    than a missing one.

    Args:
        prediction: ŷ, [N, C, H, W], float64, float32, bfloat16 or float16.
        target: y, like ``prediction``.
        alpha: α, an integer of at least 1.

    Returns:
        [N], in float32, or float64 for float64 images.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Example:
        >>> import torch
        >>> edge = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 2, 4)
        >>> gradient_difference_loss(torch.zeros(1, 1, 2, 4), edge)  # 1 a row
        tensor([2.])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §4.2.3.
    """
    if alpha == 0:
        raise ValueError("gradient_difference_loss: alpha is 0, expected at least 1")
    return prediction_losses(prediction, target, alpha=alpha).gradient_difference
