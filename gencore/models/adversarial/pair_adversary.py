"""Discriminators of pairs, for translation of images (Isola et al. 2017; Wang et al. 2018)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.adversarial.multi_scale_patch_discriminator import (
    MultiScalePatchDiscriminator,
    PatchScores,
)
from gencore.nn.stop_gradient import stop_gradient
from gencore.objectives import AdversarialGame, LogisticGame
from gencore.objectives.feature_matching import feature_matching_loss
from gencore.ops._support.checks import accumulation_dtype, number

__all__ = ["PairAdversary", "PairLoss"]


class PairLoss(NamedTuple):
    """Means over a batch, for the generator."""

    loss: Tensor
    """The weighted sum of the others, a scalar."""
    adversarial: Tensor
    """Of the game, summed over discriminators."""
    reconstruction: Tensor
    """The mean absolute difference of pixels."""
    feature_matching: Tensor
    """That of the discriminators' features; 0 where it has no weight."""


class PairAdversary(nn.Module):
    r"""What a generator that translates images x into y learns from, where pairs are known.

    .. math:: \min_G \ \lambda_{GAN} \sum_{i} \mathcal L_{GAN}(G, D_i) +
              \lambda_1 \mathbb E \lVert y - G(x) \rVert_1 +
              \lambda_{FM} \sum_{i} \mathcal L_{FM}(G, D_i)

    The discriminators see x and its translation side by side, as channels. A call is what they
    minimise, and `generator_loss` what the generator does. One of them, λ₁ = 100 and λ_FM = 0 are
    pix2pix; three, λ₁ = 0 and λ_FM = 10 are pix2pixHD, with its game of least squares. The norm is
    the mean over pixels.

    Args:
        discriminator: of as many channels as x and y have together.
        adversarial_weight: λ_GAN.
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
        >>> from gencore.models import MultiScalePatchDiscriminator, PairAdversary
        >>> from gencore.nn import UNetGenerator
        >>> generator = UNetGenerator(1, 3, num_scales=3, width=4)
        >>> adversary = PairAdversary(
        ...     MultiScalePatchDiscriminator(4, num_discriminators=2, num_scales=1, width=4)
        ... )
        >>> x, y = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
        >>> translated = generator(x)
        >>> adversary.generator_loss(x, y, translated).loss.backward()
        >>> adversary(x, y, translated)["loss"].backward()
    """

    def __init__(
        self,
        discriminator: MultiScalePatchDiscriminator,
        *,
        adversarial_weight: float = 1.0,
        reconstruction_weight: float = 100.0,
        feature_weight: float = 0.0,
        game: AdversarialGame | None = None,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.adversarial_weight, self.reconstruction_weight, self.feature_weight = (
            number("PairAdversary", name, weight)
            for name, weight in (
                ("adversarial_weight", adversarial_weight),
                ("reconstruction_weight", reconstruction_weight),
                ("feature_weight", feature_weight),
            )
        )
        self.game = LogisticGame() if game is None else game

    def forward(self, x: Tensor, y: Tensor, translated: Tensor) -> dict[str, Tensor]:
        """The discriminators' loss, as "loss", and their mean logits of data and translations.

        It has no gradient in the generator.

        Args:
            x: [N, C, H, W].
            y: what they are to become, [N, C', H, W].
            translated: G(x).
        """
        _check(y, translated)
        real = self._scores(self.discriminator, x, y)
        fake = self._scores(self.discriminator, x, translated.detach())
        terms = [
            self.game.discriminator_loss(of_real.logits, of_fake.logits)
            for of_real, of_fake in zip(real, fake, strict=True)
        ]
        means = {
            name: torch.stack([each.logits.mean() for each in scores]).mean()
            for name, scores in (("real_score", real), ("fake_score", fake))
        }
        return {"loss": torch.stack(terms).sum(), **means}

    def generator_loss(self, x: Tensor, y: Tensor, translated: Tensor) -> PairLoss:
        """The generator's loss; it has no gradient in the discriminators.

        Arguments are those of a call.
        """
        _check(y, translated)
        fake = self._scores(stop_gradient(self.discriminator), x, translated)
        adversarial = torch.stack([self.game.generator_loss(each.logits) for each in fake]).sum()
        reconstruction = (y - translated).abs().mean()
        features = torch.zeros_like(reconstruction)
        if self.feature_weight:
            with torch.no_grad():
                real = self._scores(self.discriminator, x, y)
            features = torch.stack(
                [
                    feature_matching_loss(of_real.features, of_fake.features)
                    for of_real, of_fake in zip(real, fake, strict=True)
                ]
            ).sum()
        loss = self.adversarial_weight * adversarial + self.reconstruction_weight * reconstruction
        loss = loss + self.feature_weight * features
        return PairLoss(loss, adversarial, reconstruction, features)

    def _scores(
        self, discriminator: Callable[[Tensor], list[PatchScores]], x: Tensor, y: Tensor
    ) -> list[PatchScores]:
        """Of pairs; never in half precision, in which means would be wrong."""
        dtype = accumulation_dtype(y)
        return [
            PatchScores(each.logits.to(dtype), [features.to(dtype) for features in each.features])
            for each in discriminator(torch.cat([x, y], 1))
        ]


def _check(y: Tensor, translated: Tensor) -> None:
    if translated.shape != y.shape:
        raise ValueError(
            f"PairAdversary: translated has shape {list(translated.shape)}; expected "
            f"{list(y.shape)}, as y has"
        )
