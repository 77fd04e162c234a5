"""The games of f-GANs: variational bounds of f-divergences (Nowozin et al. 2016)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.choices import check_choice
from gencore.objectives.games.game import DensityRatioGame
from gencore.objectives.games.names import FDivergenceGenerator, FDivergenceName
from gencore.objectives.scores import check_scores

__all__ = ["FDivergenceGame"]


class _Divergence(NamedTuple):
    """Functions of the score v, and the best one."""

    activation: Callable[[Tensor], Tensor]
    """T = g(v), increasing, with values where f* is finite."""
    conjugate: Callable[[Tensor], Tensor]
    """f*(g(v)), simplified."""
    best_score: Callable[[Tensor], Tensor]
    """g⁻¹(f'(u)) of log u."""


_DIVERGENCES: Mapping[FDivergenceName, _Divergence] = {
    "kl": _Divergence(lambda v: v, lambda v: (v - 1).exp(), lambda r: 1 + r),
    "reverse-kl": _Divergence(lambda v: -(-v).exp(), lambda v: v - 1, lambda r: r),
    "pearson": _Divergence(lambda v: v, lambda v: v.square() / 4 + v, lambda r: 2 * r.expm1()),
    "jensen-shannon": _Divergence(
        lambda v: (math.log(2) + logsigmoid(v)) / 2,
        lambda v: -(math.log(2) + logsigmoid(-v)) / 2,
        lambda r: r,
    ),
    "squared-hellinger": _Divergence(lambda v: -(-v).expm1(), lambda v: v.expm1(), lambda r: r / 2),
    "total-variation": _Divergence(
        lambda v: v.tanh() / 2,
        lambda v: v.tanh() / 2,
        lambda r: torch.where(r == 0, r, r.sign() * math.inf),
    ),
}


@dataclass(frozen=True)
class FDivergenceGame(DensityRatioGame):
    r"""The variational bound of an f-divergence, which the discriminator raises.

    .. math:: D_f(p^* \| p_\theta) = \mathbb E_{p_\theta} f\Big(\frac{p^*}{p_\theta}\Big)
              \ \ge\ \mathbb E_{p^*}\, g(v) - \mathbb E_{p_\theta}\, f^*(g(v)) = -L_D

    of scores v, which the output activation g takes to where the conjugate f* is finite:

    =====================  ========================  ===============  ================
    divergence             D_f(p‖q)                  g(v)             best v, u = p/q
    =====================  ========================  ===============  ================
    ``kl``                 Σ p ln p/q                v                1 + ln u
    ``reverse-kl``         Σ q ln q/p                −exp(−v)         ln u
    ``pearson``            Σ (p − q)²/q              v                2 (u − 1)
    ``jensen-shannon``     ½ KL(p‖m) + ½ KL(q‖m)     ½ ln 2σ(v)       ln u
    ``squared-hellinger``  Σ (√p − √q)²              1 − exp(−v)      ½ ln u
    ``total-variation``    ½ Σ abs(p − q)            ½ tanh v         ±∞, as ln u is
    =====================  ========================  ===============  ================

    with m = (p + q)/2. The bound is tight at the best v. All g increase, so that a high score means
    data. The paper's f of the Jensen–Shannon divergence, u ln u − (u + 1) ln((u + 1)/2), is that of
    twice the divergence; here it is halved.

    Args:
        divergence: D_f.
        generator: "saturating", −E f*(g(v)), the minimax game, which with the scores of data is
            the bound itself; "non-saturating", −E g(v) (§3.2 of the paper), which has no term of
            data.

    Raises:
        ValueError: for another divergence or loss.

    References:
        Nowozin, Cseke and Tomioka, "f-GAN: training generative neural samplers using variational
        divergence minimization", 2016, (4), (5) and tables 1 and 2.

    Example:
        >>> import torch
        >>> game = FDivergenceGame("pearson")
        >>> p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
        >>> score = game.best_score((p / q).log())
        >>> real, fake = score[[0, 0, 0, 1]], score  # as often as p and q have them
        >>> game.bound(real, fake), ((p - q) ** 2 / q).sum()
        (tensor(0.2500), tensor(0.2500))
    """

    divergence: FDivergenceName
    generator: FDivergenceGenerator = "saturating"

    def __post_init__(self) -> None:
        check_choice("FDivergenceGame", "divergence", self.divergence, get_args(FDivergenceName))
        check_choice("FDivergenceGame", "generator", self.generator, get_args(FDivergenceGenerator))

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """The lower bound E_{p*} g(v) − E_{p_θ} f*(g(v)) of the divergence, a scalar."""
        check_scores("FDivergenceGame", real=real, fake=fake)
        f = _DIVERGENCES[self.divergence]
        return f.activation(real).mean() - f.conjugate(fake).mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.bound(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        check_scores("FDivergenceGame", fake=fake)
        f = _DIVERGENCES[self.divergence]
        if self.generator == "non-saturating":
            return -f.activation(fake).mean()
        return -f.conjugate(fake).mean() if real is None else self.bound(real, fake)

    def best_score(self, log_ratio: Tensor) -> Tensor:
        return _DIVERGENCES[self.divergence].best_score(log_ratio)
