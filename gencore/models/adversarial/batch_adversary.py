"""A discriminator of whole batches that mix data and samples."""

import torch
from torch import Generator, Tensor, nn

from gencore.models.adversarial.adversary import Adversary, check_alike, refuse_labels
from gencore.objectives import MixedBatches, MixedBatchLoss, mix_batches, mixing_masks
from gencore.objectives.batch_gan.real_counts import check_smoothing
from gencore.ops import random_key
from gencore.ops._support.checks import accumulation_dtype
from gencore.sizes import check_positive

__all__ = ["BatchAdversary"]


class BatchAdversary(Adversary):
    r"""A discriminator that guesses which part of a batch of B points is data (Lucas 2020, ch. 4).

    N points of each kind make N/B mixed batches m_β, and N/B of those that they leave out, m_{1−β}
    (:func:`gencore.objectives.mix_batches`); both players' losses are means over both.

    Args:
        network: [G, B, ...] → scores [G, B], permuted with its members, e.g.
            :class:`gencore.nn.EquivariantMLP`.
        loss: :class:`gencore.objectives.BGANLoss` or :class:`gencore.objectives.MBGANLoss`.
        group_size: B.
        smoothing: γ of batch smoothing, from 0, pure batches, to ½.

    Raises:
        ValueError: for a B below 1 or a γ out of range; on a call for a number of points that is no
            multiple of B, or samples of another shape than the data's.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3, §4.4.3.

    Example:
        >>> import torch
        >>> from gencore.models import BatchAdversary
        >>> from gencore.nn import EquivariantMLP
        >>> from gencore.objectives import MBGANLoss
        >>> adversary = BatchAdversary(EquivariantMLP(2, [16]), MBGANLoss(), group_size=4)
        >>> x, fake = torch.randn(2, 16, 2)
        >>> adversary(x, fake)["loss"].backward()
        >>> adversary.generator_loss(fake, x).shape
        torch.Size([])
    """

    def __init__(
        self,
        network: nn.Module,
        loss: MixedBatchLoss,
        *,
        group_size: int,
        smoothing: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive("BatchAdversary", group_size=group_size)
        self.network, self.loss = network, loss
        self.group_size = group_size
        self.smoothing = check_smoothing("BatchAdversary", smoothing)

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
        losses = [
            self.loss.discriminator_loss(self._scores(batches), batches.proportions)
            for batches in self._mixed(real, fake, labels, generator, key, first)
        ]
        return {"loss": torch.stack(losses).mean()}

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
        losses = [
            self.loss.generator_loss(self._scores(batches))
            for batches in self._mixed(real, fake, labels, generator, key, first)
        ]
        return torch.stack(losses).mean()

    def _scores(self, batches: MixedBatches) -> Tensor:
        scores: Tensor = self.network(batches.samples)
        return scores.to(accumulation_dtype(batches.samples))

    def _mixed(
        self,
        real: Tensor,
        fake: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        key: Tensor | None,
        first: int,
    ) -> tuple[MixedBatches, MixedBatches]:
        refuse_labels("BatchAdversary", labels)
        check_alike("BatchAdversary", real, fake)
        size = self.group_size
        if len(real) % size or first % size or not len(real):
            raise ValueError(
                f"BatchAdversary: there are {len(real)} points, with {first} before them; expected "
                f"multiples of group_size, {size}"
            )
        key = random_key(generator, device=real.device) if key is None else key
        masks = mixing_masks(len(real) // size, size, self.smoothing, key=key, first=first // size)
        return mix_batches(real.unflatten(0, (-1, size)), fake.unflatten(0, (-1, size)), masks)

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}, smoothing={self.smoothing}"
