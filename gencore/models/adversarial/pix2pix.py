"""Translation of images from pairs (Isola et al. 2017; Wang et al. 2018)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.adversarial.multi_scale_patch_discriminator import MultiScalePatchDiscriminator
from gencore.nn.stop_gradient import stop_gradient
from gencore.objectives import AdversarialGame, LogisticGame
from gencore.objectives.feature_matching import feature_matching_loss
from gencore.ops._support.checks import number

__all__ = ["Pix2Pix", "Pix2PixLoss"]


class Pix2PixLoss(NamedTuple):
    """Means over a batch, for the generator."""

    loss: Tensor
    """The weighted sum of the others, a scalar."""
    adversarial: Tensor
    """Of the game, summed over discriminators."""
    reconstruction: Tensor
    """The mean absolute difference of pixels."""
    feature_matching: Tensor
    """That of the discriminators' features; 0 where it has no weight."""
    translated: Tensor
    """G(x), for `discriminator_loss`."""


class Pix2Pix(nn.Module):
    r"""A generator that translates images x into y, learned from pairs of them.

    .. math:: \min_G \ \sum_{i} \mathcal L_{GAN}(G, D_i) +
              \lambda_1 \mathbb E \lVert y - G(x) \rVert_1 +
              \lambda_{FM} \sum_{i} \mathcal L_{FM}(G, D_i)

    The discriminators see x and its translation side by side, as channels. One of them, λ₁ = 100
    and λ_FM = 0 are pix2pix; three, λ₁ = 0 and λ_FM = 10 are pix2pixHD, with its game of least
    squares. The norm is the mean over pixels.

    Args:
        generator: G, [N, C, H, W] → [N, C', H, W].
        discriminator: of C + C' channels.
        reconstruction_weight: λ₁.
        feature_weight: λ_FM.
        game: the losses of both players; by default the logistic one, with the generator's loss
            that does not saturate.

    Raises:
        ValueError: for a negative weight, or on a call for a translation that is not like y.

    References:
        Isola, Zhu, Zhou and Efros, "Image-to-image translation with conditional adversarial
        networks", 2017, (4). Wang et al., "High-resolution image synthesis and semantic
        manipulation with conditional GANs", 2018, (5).

    Example:
        >>> import torch
        >>> from gencore.models import MultiScalePatchDiscriminator, Pix2Pix
        >>> from gencore.nn import UNetGenerator
        >>> model = Pix2Pix(
        ...     UNetGenerator(1, 3, num_scales=3, width=4),
        ...     MultiScalePatchDiscriminator(4, num_discriminators=2, num_scales=1, width=4),
        ... )
        >>> x, y = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
        >>> terms = model(x, y)
        >>> terms.loss.backward()
        >>> model.discriminator_loss(x, y, terms.translated).backward()
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: MultiScalePatchDiscriminator,
        *,
        reconstruction_weight: float = 100.0,
        feature_weight: float = 0.0,
        game: AdversarialGame | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.reconstruction_weight = number(
            "Pix2Pix", "reconstruction_weight", reconstruction_weight
        )
        self.feature_weight = number("Pix2Pix", "feature_weight", feature_weight)
        self.game = LogisticGame() if game is None else game

    def forward(self, x: Tensor, y: Tensor) -> Pix2PixLoss:
        """The generator's loss of pairs; it has gradients in the generator alone.

        Args:
            x: [N, C, H, W].
            y: what they are to become, [N, C', H, W].
        """
        translated: Tensor = self.generator(x)
        if translated.shape != y.shape:
            raise ValueError(
                f"Pix2Pix: the generator gives {list(translated.shape)}; expected {list(y.shape)}, "
                "as y has"
            )
        fake = stop_gradient(self.discriminator)(torch.cat([x, translated], 1))
        adversarial = torch.stack(
            [self.game.generator_loss(scores.logits) for scores in fake]
        ).sum()
        reconstruction = (y - translated).abs().mean()
        features = torch.zeros_like(reconstruction)
        if self.feature_weight:
            with torch.no_grad():
                real = self.discriminator(torch.cat([x, y], 1))
            features = torch.stack(
                [
                    feature_matching_loss(of_real.features, of_fake.features)
                    for of_real, of_fake in zip(real, fake, strict=True)
                ]
            ).sum()
        loss = adversarial + self.reconstruction_weight * reconstruction
        loss = loss + self.feature_weight * features
        return Pix2PixLoss(loss, adversarial, reconstruction, features, translated)

    def discriminator_loss(self, x: Tensor, y: Tensor, translated: Tensor) -> Tensor:
        """The discriminators' loss, a scalar, without a gradient in the generator.

        Args:
            x, y: pairs.
            translated: G(x), as of `forward`.
        """
        real = self.discriminator(torch.cat([x, y], 1))
        fake = self.discriminator(torch.cat([x, translated.detach()], 1))
        terms = [
            self.game.discriminator_loss(of_real.logits, of_fake.logits)
            for of_real, of_fake in zip(real, fake, strict=True)
        ]
        return torch.stack(terms).sum()
