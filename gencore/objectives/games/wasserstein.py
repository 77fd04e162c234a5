"""The game of Wasserstein GANs (Arjovsky, Chintala and Bottou 2017)."""

from dataclasses import dataclass

from torch import Tensor

from gencore.objectives.games.game import AdversarialGame
from gencore.objectives.scores import check_scores

__all__ = ["WassersteinGame"]


@dataclass(frozen=True)
class WassersteinGame(AdversarialGame):
    r"""The difference of mean scores, an integral probability metric of the class of D.

    .. math:: L_D = \mathbb E_{p_\theta} D - \mathbb E_{p^*} D, \qquad L_G = -\mathbb E_{p_\theta} D

    Over the functions of slope at most 1, −min L_D is the distance W₁(p*, p_θ); over those with
    values in [−1, 1] it is twice the total variation. Over all functions it has no bound: hold the
    critic by :func:`gencore.objectives.gradient_penalty`, by
    :func:`torch.nn.utils.parametrizations.spectral_norm` of its layers, or by
    :func:`gencore.nn.clip_weights`. With the scores of data, L_G = −L_D estimates the distance.

    References:
        Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017. Yan, "Deep Generative Models:
        Design, Improvements and Applications", 2022, (2.9) to (2.11). Lucas, "Deep generative
        models: over-generalisation and mode-dropping", 2020, (2.73) and (2.74); the factor 1/k of
        its (2.75) is spurious.

    Example:
        >>> import torch
        >>> WassersteinGame().discriminator_loss(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor(-2.)
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        check_scores("WassersteinGame", real=real, fake=fake)
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        check_scores("WassersteinGame", fake=fake)
        if real is None:
            return -fake.mean()
        check_scores("WassersteinGame", real=real)
        return real.mean() - fake.mean()
