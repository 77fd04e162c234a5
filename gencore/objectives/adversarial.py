"""The losses of generative adversarial networks, of a discriminator's logits."""

from typing import get_args

from torch import Tensor
from torch.nn.functional import softplus

from gencore.choices import check_choice
from gencore.objectives.games.names import GeneratorLossKind
from gencore.objectives.scores import check_scores

__all__ = ["adversarial_discriminator_loss", "adversarial_generator_loss"]


def adversarial_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""The discriminator's loss, minus the value of the game (2.31), for D = σ(logit).

    .. math:: \mathcal L_D = -\mathbb E_{p^*}[\ln D(x)] - \mathbb E_{p_\theta}[\ln(1 - D(x))]

    The best logit of x is ln p*(x)/p_θ(x), and the loss then 2 ln 2 − 2 JS(p*‖p_θ).

    Args:
        real: logits of data, of any shape.
        fake: logits of samples, of any shape.

    Returns:
        A scalar.

    Raises:
        ValueError: for logits that are not floating point or empty.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (2.31).

    Example:
        >>> import torch
        >>> adversarial_discriminator_loss(torch.zeros(3), torch.zeros(2))  # 2 log 2
        tensor(1.3863)
    """
    check_scores("adversarial_discriminator_loss", real=real, fake=fake)
    return softplus(-real).mean() + softplus(fake).mean()


def adversarial_generator_loss(fake: Tensor, kind: GeneratorLossKind = "combined") -> Tensor:
    r"""The generator's loss, for D = σ(a) of the logits a of its samples.

    ===================  ======================  =================================
    kind                 loss                    with the best D
    ===================  ======================  =================================
    ``combined``         E ln((1 − D)/D) = −E a  KL(p_θ‖p*), (5.3) and (5.6)
    ``non-saturating``   −E ln D
    ``saturating``       E ln(1 − D)             KL(p_θ‖(p_θ + p*)/2) − ln 2, (5.2)
    ===================  ======================  =================================

    The thesis drops the constant of (5.2).

    Args:
        fake: a, of any shape.
        kind: the loss.

    Returns:
        A scalar.

    Raises:
        ValueError: for another kind, or logits that are not floating point or empty.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §2.7, §5.3.

    Example:
        >>> import torch
        >>> adversarial_generator_loss(torch.tensor([1.0, 3.0]))
        tensor(-2.)
    """
    check_choice("adversarial_generator_loss", "kind", kind, get_args(GeneratorLossKind))
    check_scores("adversarial_generator_loss", fake=fake)
    if kind == "combined":
        return -fake.mean()
    return softplus(-fake).mean() if kind == "non-saturating" else -softplus(fake).mean()
