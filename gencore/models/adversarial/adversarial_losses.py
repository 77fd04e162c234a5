"""What a model asks of its game: a loss of the scores for each player."""

from typing import Protocol

from torch import Tensor

from gencore.objectives.adversarial import (
    adversarial_discriminator_loss,
    adversarial_generator_loss,
)

__all__ = ["AdversarialLosses", "NonSaturatingLosses"]


class AdversarialLosses(Protocol):
    """The two losses of a game, means over scores of any shape."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Of the scores of data and of samples, a scalar."""

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Of the scores of samples, a scalar."""


class NonSaturatingLosses:
    """−E ln D(x) − E ln(1 − D(x̃)) for the discriminator, −E ln D(x̃) for the generator.

    Example:
        >>> import torch
        >>> NonSaturatingLosses().generator_loss(torch.zeros(3))  # log 2
        tensor(0.6931)
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return adversarial_discriminator_loss(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        return adversarial_generator_loss(fake, "non-saturating")
