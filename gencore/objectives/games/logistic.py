"""The game of generative adversarial networks (Goodfellow et al. 2014)."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor
from torch.nn.functional import softplus

from gencore.choices import check_choice
from gencore.objectives.adversarial import (
    adversarial_discriminator_loss,
    adversarial_generator_loss,
)
from gencore.objectives.games.game import DensityRatioGame
from gencore.objectives.games.names import GeneratorLossKind
from gencore.objectives.scores import check_scores

__all__ = ["LogisticGame"]


@dataclass(frozen=True)
class LogisticGame(DensityRatioGame):
    r"""Scores are logits a of the probability σ(a) that a point is a data point.

    .. math:: L_D = -\mathbb E_{p^*}[\ln \sigma(a)] - \mathbb E_{p_\theta}[\ln(1 - \sigma(a))]
              \ \ge\ 2 \ln 2 - 2\, \mathrm{JS}(p^* \| p_\theta)

    with equality at a = ln p*/p_θ. The generator's three losses are those of
    :func:`gencore.objectives.adversarial_generator_loss`. With the scores of data the saturating
    one is −L_D, the value of the minimax game; the other two have no term of data.

    Args:
        generator: "non-saturating", −E ln σ(a); "saturating", E ln(1 − σ(a)); "combined", −E a.

    Raises:
        ValueError: for another loss.

    References:
        Goodfellow et al., "Generative adversarial nets", 2014, (1). Mathieu, "Unsupervised
        Learning Under Uncertainty", 2017, (2.20) and (2.21). Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, §2.7 and §5.3.

    Example:
        >>> import torch
        >>> game = LogisticGame("combined")
        >>> game.discriminator_loss(torch.zeros(3), torch.zeros(2))  # 2 log 2
        tensor(1.3863)
        >>> game.generator_loss(torch.tensor([1.0, 3.0]))
        tensor(-2.)
    """

    generator: GeneratorLossKind = "non-saturating"

    def __post_init__(self) -> None:
        check_choice("LogisticGame", "generator", self.generator, get_args(GeneratorLossKind))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return adversarial_discriminator_loss(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        loss = adversarial_generator_loss(fake, self.generator)
        if real is None or self.generator != "saturating":
            return loss
        check_scores("LogisticGame", real=real)
        return loss - softplus(-real).mean()

    def best_score(self, log_ratio: Tensor) -> Tensor:
        return log_ratio
