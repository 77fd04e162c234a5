"""A distance of two sets of points in the place of a discriminator."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gencore.models.adversarial.adversary import Adversary, check_alike, refuse_labels

__all__ = ["DistanceAdversary"]


class DistanceAdversary(Adversary):
    """A fixed distance of samples from data, which the generator lowers; there is no game.

    Autocast leaves it alone: differences of near points would drown in half precision.

    Args:
        distance: (samples [N, ...], data [N, ...]) → a scalar, differentiable in the samples, such
            as :func:`gencore.objectives.sinkhorn_divergence`.

    References:
        Li, Swersky and Zemel, "Generative moment matching networks", 2015. Genevay, Peyré and
        Cuturi, "Learning generative models with Sinkhorn divergences", 2018.

    Example:
        >>> import torch
        >>> from gencore.models import DistanceAdversary
        >>> adversary = DistanceAdversary(lambda x, y: (x.mean(0) - y.mean(0)).square().sum())
        >>> adversary.is_trained, adversary.generator_loss(torch.ones(4, 2), torch.zeros(4, 2))
        (False, tensor(2.))
    """

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.distance = distance

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
        raise TypeError("DistanceAdversary: it has no loss of its own; expected generator_loss")

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
        refuse_labels("DistanceAdversary", labels)
        check_alike("DistanceAdversary", real, fake)
        with torch.autocast(fake.device.type, enabled=False):
            return self.distance(fake, real)
