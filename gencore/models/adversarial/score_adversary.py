"""A discriminator of single samples, in any game of scores."""

from torch import Generator, Tensor, nn

from gencore.models.adversarial.adversary import Adversary, check_alike, one_score
from gencore.objectives import AdversarialGame, gradient_penalty
from gencore.ops._support.checks import number

__all__ = ["ScoreAdversary"]


class ScoreAdversary(Adversary):
    r"""A discriminator whose scores of data and samples are a game's, held by a gradient penalty
    if asked for.

    .. math:: L_D(D(x), D(\tilde x)) + \lambda\,
              \mathbb E\big[(\lVert \nabla D(\hat x) \rVert_2 - 1)^2\big], \qquad L_G(D(\tilde x))

    Args:
        network: D, [N, ...] → scores [N] or [N, 1]; on labels too where they are given.
        game: the two losses.
        penalty_weight: λ; 0 for none.

    Raises:
        ValueError: for a negative weight, and on a call for samples of another shape than the
            data's, or a network that gives another shape.

    References:
        Goodfellow et al., "Generative adversarial nets", 2014. Gulrajani et al., "Improved training
        of Wasserstein GANs", 2017.

    Example:
        >>> import torch
        >>> from gencore.models import ScoreAdversary
        >>> from gencore.objectives import WassersteinGame
        >>> critic = torch.nn.Linear(2, 1)
        >>> adversary = ScoreAdversary(critic, WassersteinGame(), penalty_weight=10.0)
        >>> x, fake = torch.randn(2, 16, 2)
        >>> adversary(x, fake)["loss"].backward()
        >>> adversary.generator_loss(fake, x).shape
        torch.Size([])
    """

    def __init__(
        self, network: nn.Module, game: AdversarialGame, *, penalty_weight: float = 0.0
    ) -> None:
        super().__init__()
        number("ScoreAdversary", "penalty_weight", penalty_weight)
        self.network, self.game, self.penalty_weight = network, game, penalty_weight

    def scores(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x) of data or samples [N, ...], [N]."""
        return one_score(type(self).__name__, self.network, x, labels)

    def forward(
        self,
        real: Tensor,
        fake: Tensor,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> dict[str, Tensor]:
        check_alike(type(self).__name__, real, fake)
        real_scores, fake_scores = self.scores(real, labels), self.scores(fake, labels)
        loss = self.game.discriminator_loss(real_scores, fake_scores)
        terms = {"real_score": real_scores.mean(), "fake_score": fake_scores.mean()}
        if self.penalty_weight:
            penalty = gradient_penalty(
                lambda x: self.scores(x, labels), real, fake, weight=self.penalty_weight,
                generator=generator, key=key, first=first,
            )  # fmt: skip
            loss, terms["penalty"] = loss + penalty, penalty
        return {"loss": loss, **terms}

    def generator_loss(
        self,
        fake: Tensor,
        real: Tensor,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        return self.game.generator_loss(self.scores(fake, labels))

    def extra_repr(self) -> str:
        return f"game={self.game}, penalty_weight={self.penalty_weight}"
