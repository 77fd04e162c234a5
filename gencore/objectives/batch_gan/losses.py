"""The losses of a discriminator that guesses the proportion of data in mixed batches."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.choices import check_choice

__all__ = ["BGANLoss", "MBGANLoss", "MixedBatchLoss", "ScoreAverage"]

ScoreAverage = Literal["logits", "probabilities"]


class MixedBatchLoss(ABC):
    r"""Two losses of a discriminator's scores of the members of mixed batches, one for each player.

    .. math:: \min_D \mathbb E\, KL(\mathcal B(u) \| \mathcal B(D(m_\beta))) \quad (4.4), \qquad
              \max_G \mathbb E \log D(m_\beta) \quad (4.5)

    The methods are those of a game of single points, with the proportions u of data in the place
    of a division of the scores into real and fake. Both players' losses are means over both halves
    of :func:`mix_batches`; the discriminator's are of detached samples.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.1.
    """

    @abstractmethod
    def log_probabilities(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """log D and log(1 − D), [N, K], of scores [N, B]: what has to be the proportion."""

    def discriminator_loss(self, scores: Tensor, proportions: Tensor) -> Tensor:
        """The mean divergence of guessed proportions from those of N mixed batches, a scalar.

        Args:
            scores: o_i, one logit a member of each batch, [N, B].
            proportions: u, the part of each batch that is data, [N].

        Raises:
            ValueError: for shapes that do not fit.
        """
        name = f"{type(self).__name__}.discriminator_loss"
        _check_scores(name, scores)
        if proportions.shape != scores.shape[:1]:
            raise ValueError(
                f"{name}: proportions have shape {list(proportions.shape)} for scores "
                f"{list(scores.shape)}; expected {list(scores.shape[:1])}"
            )
        u = proportions.to(scores).unsqueeze(1)
        entropy = -torch.special.xlogy(u, u) - torch.special.xlogy(1 - u, 1 - u)
        log_d, log_not_d = self.log_probabilities(scores)
        return (-entropy - u * log_d - (1 - u) * log_not_d).mean()

    def generator_loss(self, scores: Tensor) -> Tensor:
        """−log D of mixed batches, whose proportion of data is to look like 1; a scalar.

        It is the discriminator's loss for u = 1.

        Args:
            scores: o_i, one logit a member of each batch, [N, B].

        Raises:
            ValueError: for another shape.
        """
        _check_scores(f"{type(self).__name__}.generator_loss", scores)
        return -self.log_probabilities(scores)[0].mean()


@dataclass(frozen=True)
class BGANLoss(MixedBatchLoss):
    r"""One guess of the proportion a batch, from the mean of the scores of its members.

    .. math:: \ell\Bigl(\tfrac1B \sum_i o_i, u\Bigr) \quad (4.13), \qquad
              \ell = KL(\mathcal B(u) \| \mathcal B(v))
              = u \log\frac uv + (1 - u) \log\frac{1 - u}{1 - v} \quad (4.3)

    where v = D is the sigmoid of the mean score, or with "probabilities" the mean of the sigmoids.
    (The source does not say which.) The best D is that of :func:`optimal_batch_discriminator`. The
    loss is 0 where v = u, and is never above that of :class:`MBGANLoss`, by Jensen's inequality.

    The generator maximises E log D of mixed batches (4.5). With the best D, of a uniform law of the
    number of data, that is −log 2 − KL(p_balanced‖p_unbalanced).

    Args:
        average: what is averaged over a batch, "logits" or "probabilities".

    Raises:
        ValueError: for another average.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.1,
        §4.4.3.

    Example:
        >>> import torch
        >>> from gencore.objectives import BGANLoss, MBGANLoss
        >>> scores, proportions = torch.tensor([[2.0, -2.0]]), torch.tensor([0.5])
        >>> BGANLoss().discriminator_loss(scores, proportions)
        tensor(0.)
        >>> MBGANLoss().discriminator_loss(scores, proportions)
        tensor(0.4338)
        >>> BGANLoss().generator_loss(scores)  # log 2
        tensor(0.6931)
    """

    average: ScoreAverage = "logits"

    def __post_init__(self) -> None:
        check_choice("BGANLoss", "average", self.average, get_args(ScoreAverage))

    def log_probabilities(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        if self.average == "logits":
            return _log_sigmoids(scores.mean(1, keepdim=True))
        log_d, log_not_d = (log.logsumexp(1, keepdim=True) for log in _log_sigmoids(scores))
        log_size = torch.tensor(scores.shape[1]).to(scores).log()
        return log_d - log_size, log_not_d - log_size


@dataclass(frozen=True)
class MBGANLoss(MixedBatchLoss):
    r"""A guess of the proportion for each member of a batch, from its own score.

    .. math:: \frac1B \sum_i \ell(o_i, u) \qquad (4.14)

    with ℓ as for :class:`BGANLoss`. Sorting the scores changes nothing: the members make an
    ensemble of B discriminators of the whole batch, the i-th smallest score for each i (4.15).

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.3,
        §4.5.4.

    Example:
        >>> import torch
        >>> from gencore.objectives import MBGANLoss
        >>> MBGANLoss().generator_loss(torch.zeros(3, 4))  # log 2
        tensor(0.6931)
    """

    def log_probabilities(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        return _log_sigmoids(scores)


def _log_sigmoids(scores: Tensor) -> tuple[Tensor, Tensor]:
    return logsigmoid(scores), logsigmoid(-scores)


def _check_scores(owner: str, scores: Tensor) -> None:
    if scores.dim() != 2 or not scores.numel() or not scores.is_floating_point():
        raise ValueError(
            f"{owner}: scores are {scores.dtype} {list(scores.shape)}; expected logits [N, B], "
            "floating point and not empty"
        )
