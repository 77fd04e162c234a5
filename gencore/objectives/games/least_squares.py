"""The game of least-squares GANs (Mao et al. 2017)."""

from dataclasses import dataclass

from torch import Tensor

from gencore.objectives.games.game import DensityRatioGame
from gencore.objectives.scores import check_scores
from gencore.ops._support.checks import finite

__all__ = ["LeastSquaresGame"]


@dataclass(frozen=True)
class LeastSquaresGame(DensityRatioGame):
    r"""Scores are fitted to one code for data, b, and another for samples, a.

    .. math:: L_D = \tfrac12 \mathbb E_{p^*}(D - b)^2 + \tfrac12 \mathbb E_{p_\theta}(D - a)^2,
              \qquad L_G = \tfrac12 \mathbb E_{p_\theta}(D - c)^2

    The best score is (b p* + a p_θ)/(p* + p_θ). With the scores of data L_G gains
    ½ E_{p*}(D − c)², and where b − c = 1 and b − a = 2, 2 L_G at the best score is then the Pearson
    divergence Σ (p* − p_θ)²/(p* + p_θ) of p* + p_θ from 2 p_θ.

    Args:
        fake_code: a.
        real_code: b.
        target_code: c, what the generator wants its samples to score. The default 0, 1, 1 is the
            paper's (9); −1, 1, 0 its (8), which has the divergence.

    Raises:
        ValueError: for codes that are not finite, or a = b.

    References:
        Mao, Li, Xie, Lau, Wang and Smolley, "Least squares generative adversarial networks", 2017.

    Example:
        >>> import torch
        >>> LeastSquaresGame().discriminator_loss(torch.tensor([1.0]), torch.tensor([2.0]))
        tensor(2.)
        >>> LeastSquaresGame(-1, 1, 0).generator_loss(torch.tensor([2.0]))
        tensor(2.)
    """

    fake_code: float = 0.0
    real_code: float = 1.0
    target_code: float = 1.0

    def __post_init__(self) -> None:
        for name in ("fake_code", "real_code", "target_code"):
            finite("LeastSquaresGame", name, getattr(self, name))
        if self.fake_code == self.real_code:
            raise ValueError(
                f"LeastSquaresGame: fake_code is {self.fake_code}, as real_code is; expected two "
                "numbers"
            )

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        check_scores("LeastSquaresGame", real=real, fake=fake)
        return _distance(real, self.real_code) + _distance(fake, self.fake_code)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        check_scores("LeastSquaresGame", fake=fake)
        loss = _distance(fake, self.target_code)
        if real is None:
            return loss
        check_scores("LeastSquaresGame", real=real)
        return loss + _distance(real, self.target_code)

    def best_score(self, log_ratio: Tensor) -> Tensor:
        return self.fake_code + (self.real_code - self.fake_code) * log_ratio.sigmoid()


def _distance(scores: Tensor, code: float) -> Tensor:
    return 0.5 * (scores - code).square().mean()
