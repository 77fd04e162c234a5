"""A discriminator of points between data and samples."""

import numpy as np
import torch
from torch import Generator, Tensor, nn

from gencore.models.adversarial.adversary import Adversary, check_alike, one_score, refuse_labels
from gencore.objectives import LogisticGame, mixup_discriminator_loss
from gencore.ops import random_key
from gencore.ops._support.checks import finite

__all__ = ["MixupAdversary"]


class MixupAdversary(Adversary):
    r"""A discriminator that guesses how much of a point is data (Zhang et al. 2018).

    It sees λx + (1 − λ)x̃ with λ ~ Beta(α, α), and learns the logit of λ by cross-entropy; the
    generator has the logistic game's loss −E ln D of its samples.

    Args:
        network: [N, ...] → logits [N] or [N, 1].
        concentration: α.

    Raises:
        ValueError: for an α that is not positive, and on a call for samples of another shape than
            the data's, or a network that gives another shape.

    References:
        Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", 2018,
        §3.7. Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.5.1.

    Example:
        >>> import torch
        >>> from gencore.models import MixupAdversary
        >>> adversary = MixupAdversary(torch.nn.Linear(2, 1))
        >>> x, fake = torch.randn(2, 16, 2)
        >>> adversary(x, fake)["loss"].backward()
    """

    def __init__(self, network: nn.Module, *, concentration: float = 0.2) -> None:
        super().__init__()
        if finite("MixupAdversary", "concentration", concentration) <= 0:
            raise ValueError(
                f"MixupAdversary: concentration is {concentration}; expected a positive number"
            )
        self.network, self.concentration = network, concentration
        self._game = LogisticGame()

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
        refuse_labels("MixupAdversary", labels)
        check_alike("MixupAdversary", real, fake)
        key = random_key(generator, device=real.device) if key is None else key
        # Those of the rows before are drawn too, so that parts of a batch see what the whole would.
        seed = [int(part) % 2**64 for part in key]
        drawn = np.random.default_rng(seed).beta(
            self.concentration, self.concentration, first + len(real)
        )
        mixing = torch.from_numpy(drawn[first:]).to(real)
        return {"loss": mixup_discriminator_loss(self._scores, real, fake, mixing)}

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
        refuse_labels("MixupAdversary", labels)
        return self._game.generator_loss(self._scores(fake))

    def _scores(self, x: Tensor) -> Tensor:
        return one_score("MixupAdversary", self.network, x)

    def extra_repr(self) -> str:
        return f"concentration={self.concentration}"
