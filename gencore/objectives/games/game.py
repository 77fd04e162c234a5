"""What all games of a discriminator and a generator have in common."""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["AdversarialGame", "DensityRatioGame"]


class AdversarialGame(ABC):
    r"""Two losses of a discriminator's scores D(x), one for each player.

    .. math:: \min_D L_D(D(x), D(\tilde x)), \qquad \min_G L_G(D(\tilde x), D(x)), \qquad
              x \sim p^*, \quad \tilde x = G(z) \sim p_\theta

    Both are means over scores, so real and fake may differ in number. What −min L_D over a class of
    D measures, up to constants, is the adversarial metric of that class: the classes and metrics
    stand beside each game. A player's loss has gradients in all that its scores were made from;
    give the discriminator detached samples, and the generator `gencore.nn.stop_gradient` of the
    discriminator, or an optimiser of its own parameters alone.

    References:
        Goodfellow et al., "Generative adversarial nets", 2014. Bruna, "Inference and
        Representation", Lecture 11.
    """

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises.

        Args:
            real: D(x) of data, of any shape.
            fake: D(x̃) of samples, of any shape.

        Returns:
            A scalar.

        Raises:
            ValueError: for scores that are not floating point or empty.
        """

    @abstractmethod
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """What the generator minimises.

        Args:
            fake: D(x̃) of samples, of any shape.
            real: D(x) of data. They add the term of the data, which no generator changes and
                without which the loss is no divergence. A game that has none leaves them aside.

        Returns:
            A scalar.

        Raises:
            ValueError: for scores that are not floating point or empty.
        """


class DensityRatioGame(AdversarialGame):
    """A game whose best score of x depends on the ratio of the densities there alone."""

    @abstractmethod
    def best_score(self, log_ratio: Tensor) -> Tensor:
        """The score of x that minimises L_D, where any function is a discriminator.

        Args:
            log_ratio: log p*(x)/p_θ(x), of any shape; infinite where one of them is 0.

        Returns:
            D*(x), of that shape.
        """
