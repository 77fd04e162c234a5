"""The losses of frames that are predicted at several scales."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gencore.ops import prediction_losses

__all__ = [
    "MultiScalePredictionLoss",
    "multi_scale_discriminator_loss",
    "multi_scale_generator_loss",
    "multi_scale_prediction_loss",
]


def multi_scale_discriminator_loss(real: Tensor, predicted: Tensor) -> Tensor:
    r"""The discriminators' loss (4.2) of each row: real frames are class 1, predicted ones class 0.

    .. math:: \mathcal L_D^{\mathrm{adv}}(x, y) = \sum_{k=1}^K
              L^{\mathrm{bce}}(D_k(x_k, y_k), 1) + L^{\mathrm{bce}}(D_k(x_k, G_k(x)), 0)

    with the binary cross-entropy (4.3), −log σ(l) for class 1 and −log(1 − σ(l)) for class 0, of
    logits l. The thesis lost the brackets around both of its terms.

    Args:
        real: logits of the true frames, [N, K].
        predicted: logits of the predicted frames, [N, K].

    Returns:
        [N].

    Raises:
        ValueError: for logits of other or different shapes.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.2.2.

    Example:
        >>> logits = torch.zeros(1, 4)  # nobody knows: log 2 for each answer
        >>> multi_scale_discriminator_loss(logits, logits)
        tensor([5.5452])
    """
    _check_logits("multi_scale_discriminator_loss", real)
    if predicted.shape != real.shape:
        raise ValueError(
            f"multi_scale_discriminator_loss: predicted has shape {list(predicted.shape)}; "
            f"expected {list(real.shape)}, as real has"
        )
    return (softplus(-real) + softplus(predicted)).sum(1)


def multi_scale_generator_loss(predicted: Tensor) -> Tensor:
    r"""The generators' adversarial loss (4.4) of each row: predictions that pass for real.

    .. math:: \mathcal L_G^{\mathrm{adv}}(x) = \sum_{k=1}^K L^{\mathrm{bce}}(D_k(x_k, G_k(x)), 1)

    The term of scale k trains every coarser generator as well, whose guesses are its input.

    Args:
        predicted: logits of the predicted frames, [N, K].

    Returns:
        [N].

    Raises:
        ValueError: for logits of another shape.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.2.2.

    Example:
        >>> multi_scale_generator_loss(torch.zeros(1, 4))
        tensor([2.7726])
    """
    _check_logits("multi_scale_generator_loss", predicted)
    return softplus(-predicted).sum(1)


class MultiScalePredictionLoss(NamedTuple):
    """The combined loss of each row, [N], and its parts without their weights."""

    loss: Tensor
    adversarial: Tensor
    lp: Tensor
    gradient_difference: Tensor


def multi_scale_prediction_loss(
    predictions: Sequence[Tensor],
    targets: Sequence[Tensor],
    logits: Tensor | None = None,
    *,
    adversarial_weight: float = 0.05,
    lp_weight: float = 1.0,
    gradient_difference_weight: float = 1.0,
    p: int = 1,
    alpha: int = 1,
    pixel_means: bool = False,
) -> MultiScalePredictionLoss:
    r"""The generators' combined loss (4.6) of each row, summed over the scales.

    .. math:: \mathcal L = \lambda_{\mathrm{adv}} \mathcal L_G^{\mathrm{adv}}
              + \lambda_p \mathcal L_p + \lambda_{\mathrm{gdl}} \mathcal L_{\mathrm{gdl}}

    with the Lᵖ loss (4.1) and the gradient difference loss (4.5) of :mod:`gencore.objectives`.

    Args:
        predictions: ŷ_k of K scales, [N, C, H_k, W_k].
        targets: y_k, like them.
        logits: of the predictions, [N, K]; without them there is no adversarial loss.
        adversarial_weight: λ_adv.
        lp_weight: λ_p.
        gradient_difference_weight: λ_gdl.
        p: 1 or 2.
        alpha: α, an integer of at least 1.
        pixel_means: divide both losses of scale k by its C·H_k·W_k values. The thesis writes sums;
            the paper's program takes means, which its weights and learning rates belong to.

    Raises:
        ValueError: for scales that do not agree, and as `gencore.ops.prediction_losses`.
        TypeError: as `gencore.ops.prediction_losses`.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.2.4.

    Example:
        >>> y = torch.zeros(1, 1, 2, 2)
        >>> losses = multi_scale_prediction_loss([y + 0.5], [y], torch.zeros(1, 1))
        >>> losses.lp, losses.gradient_difference, losses.loss  # 2 + 0.05 log 2
        (tensor([2.]), tensor([0.]), tensor([2.0347]))
    """
    owner = "multi_scale_prediction_loss"
    if not predictions or len(predictions) != len(targets):
        raise ValueError(
            f"{owner}: got {len(predictions)} predictions and {len(targets)} targets; expected one "
            "of each for every scale"
        )
    scales = []
    for prediction, target in zip(predictions, targets, strict=True):
        losses = torch.stack(prediction_losses(prediction, target, p=p, alpha=alpha))
        scales.append(losses / target[0].numel() if pixel_means else losses)
    lp, gradient_difference = torch.stack(scales).sum(0)
    adversarial = torch.zeros_like(lp) if logits is None else multi_scale_generator_loss(logits)
    loss = (
        adversarial_weight * adversarial
        + lp_weight * lp
        + gradient_difference_weight * gradient_difference
    )
    return MultiScalePredictionLoss(loss, adversarial, lp, gradient_difference)


def _check_logits(owner: str, logits: Tensor) -> None:
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(
            f"{owner}: logits are {logits.dtype} {list(logits.shape)}; expected floating point "
            "[N, K]"
        )
