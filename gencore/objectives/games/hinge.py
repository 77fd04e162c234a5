"""The game with hinge losses (Lim and Ye 2017)."""

from dataclasses import dataclass

from torch import Tensor

from gencore.objectives.games.game import DensityRatioGame
from gencore.objectives.scores import check_scores

__all__ = ["HingeGame"]


@dataclass(frozen=True)
class HingeGame(DensityRatioGame):
    r"""Data should score above 1 and samples below −1; what does adds no gradient.

    .. math:: L_D = \mathbb E_{p^*}[1 - D]^+ + \mathbb E_{p_\theta}[1 + D]^+
              \ \ge\ 2 - 2\, \mathrm{TV}(p^*, p_\theta), \qquad L_G = -\mathbb E_{p_\theta} D

    with equality at D = 1 where p* > p_θ and −1 where p* < p_θ. There, with the scores of data,
    L_G = E_{p*} D − E_{p_θ} D = 2 TV(p*, p_θ), TV being half of the L¹ distance.

    References:
        Lim and Ye, "Geometric GAN", 2017. Miyato, Kataoka, Koyama and Yoshida, "Spectral
        normalization for generative adversarial networks", 2018, (16) and (17).

    Example:
        >>> import torch
        >>> game = HingeGame()
        >>> game.discriminator_loss(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5]))
        tensor(1.2500)
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        check_scores("HingeGame", real=real, fake=fake)
        return (1 - real).relu().mean() + (1 + fake).relu().mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        check_scores("HingeGame", fake=fake)
        if real is None:
            return -fake.mean()
        check_scores("HingeGame", real=real)
        return real.mean() - fake.mean()

    def best_score(self, log_ratio: Tensor) -> Tensor:
        """sign(log p*/p_θ); at 0 any score from −1 to 1 is as good."""
        return log_ratio.sign()
