"""The game of energy-based GANs (Zhao, Mathieu and LeCun 2017)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.objectives.games.game import DensityRatioGame
from gencore.objectives.scores import check_scores
from gencore.ops._support.checks import finite

__all__ = ["EnergyGame"]

Power = Literal[1, 2]


@dataclass(frozen=True)
class EnergyGame(DensityRatioGame):
    r"""Scores are energies D ≥ 0, low at data and raised at samples up to a margin m.

    .. math:: L_D = \mathbb E_{p^*} f(D) + \mathbb E_{p_\theta} f([m - D]^+), \qquad
              L_G = \mathbb E_{p_\theta} f(D), \qquad f(u) = u \text{ or } u^2

    which are (6.1) and (6.2). Samples above the margin have no gradient in the discriminator, and
    keep theirs in the generator. For given densities,

    ======  ===================================  ======================
    f       best energy                          min L_D
    ======  ===================================  ======================
    u       0 where p* > p_θ, m where p* < p_θ   m (1 − TV(p*, p_θ))
    u²      m p_θ/(p* + p_θ)                     m² Σ p* p_θ/(p* + p_θ)
    ======  ===================================  ======================

    so that at p_θ = p* the value is 2 f(m/2). Gradient play settles there, at D = m/2, for u²; for
    u it cycles. With the scores of data L_G gains −E_{p*} f(D): at the best energy and f(u) = u it
    is then m TV(p*, p_θ).

    Args:
        margin: m.
        power: of f, 1 or 2.

    Raises:
        ValueError: for a margin that is not positive and finite, or another power.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §6.2. Zhao, Mathieu and LeCun,
        "Energy-based generative adversarial networks", 2017.

    Example:
        >>> import torch
        >>> game = EnergyGame(margin=2.0)
        >>> game.discriminator_loss(torch.tensor([0.5]), torch.tensor([1.5, 4.0]))
        tensor(0.7500)
        >>> game.generator_loss(torch.tensor([1.5, 4.0]))
        tensor(2.7500)
    """

    margin: float
    power: Power = 1

    def __post_init__(self) -> None:
        if not finite("EnergyGame", "margin", self.margin) > 0:
            raise ValueError(f"EnergyGame: margin is {self.margin}; expected a positive number")
        check_choice("EnergyGame", "power", self.power, get_args(Power))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        check_scores("EnergyGame", real=real, fake=fake)
        return self._f(real).mean() + self._f((self.margin - fake).relu()).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        check_scores("EnergyGame", fake=fake)
        if real is None:
            return self._f(fake).mean()
        check_scores("EnergyGame", real=real)
        return self._f(fake).mean() - self._f(real).mean()

    def best_score(self, log_ratio: Tensor) -> Tensor:
        """The best energy; for f(u) = u and equal densities any from 0 to m is as good."""
        if self.power == 2:
            return self.margin * (-log_ratio).sigmoid()
        return self.margin * torch.heaviside(-log_ratio, log_ratio.new_tensor(0.5))

    def _f(self, energy: Tensor) -> Tensor:
        return energy.square() if self.power == 2 else energy
