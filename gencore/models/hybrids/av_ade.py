"""Adaptive density estimation with an adversary: AV-ADE, and what it is compared with."""

from typing import NamedTuple

from torch import Generator, Tensor, nn

from gencore.models.hybrids.v_ade import VADE, EncoderInput
from gencore.models.starts import like
from gencore.nn import Inverse, Transform, stop_gradient
from gencore.nn.evaluating import evaluating
from gencore.objectives import adversarial_generator_loss
from gencore.ops import random_key
from gencore.ops._support.checks import number

__all__ = ["AVADE", "AVADELoss"]


class AVADELoss(NamedTuple):
    """The generator's loss and its parts, scalars."""

    loss: Tensor
    """L_C + λ L_Q, of what the model has."""
    coverage: Tensor | None
    """L_C (5.5), in nats a data point; none where the model maximises no likelihood."""
    quality: Tensor | None
    """L_Q (5.6); none without an adversary."""


class AVADE(VADE):
    r"""AV-ADE: V-ADE that is trained by likelihood for coverage and by an adversary for quality.

    .. math:: \mathcal L = \mathcal L_C + \lambda \mathcal L_Q, \qquad
              \mathcal L_Q = -\mathbb E_{z}\Big[\ln \frac{D(\tilde x)}{1 - D(\tilde x)}\Big],
              \qquad \tilde x = f_\psi^{-1}(\mu(z))

    With the best D, L_Q is KL(p‖p*), so that the sum bounds both divergences between the data and
    the model (5.7). The flow is trained with the likelihood alone: L_Q passes through f⁻¹ to the
    decoder and leaves ψ untouched. With f the identity it is AV-GDE; `coverage` false is a GAN, and
    a call without a discriminator is V-ADE, or with f the identity a VAE: the five models of table
    5.1 (`gencore.models.ADE_MODELS`).

    Args:
        encoder, decoder, features, latent_size, encoder_input: as of `VADE`.
        coverage: whether L_C is a part of the loss. Without it encoder, σ and f are not trained,
            and require no gradients.
        adversarial_weight: λ.
        sample_noise: whether the adversary sees f⁻¹(μ(z) + σε), as in Algorithm 1, and not
            f⁻¹(μ(z)), as in (5.6).
        train_features: let the gradient of L_Q into ψ.

    Raises:
        ValueError: for a negative λ, and as `VADE`.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §5.4,
        Algorithm 1 (A.3).

    Example:
        >>> import torch
        >>> from gencore.models import AVADE, ScoreAdversary
        >>> from gencore.nn import MLP, AffineCoupling
        >>> from gencore.objectives import LogisticGame
        >>> encoder, decoder = MLP(2, (8,), 2), MLP(1, (8,), 2)
        >>> model = AVADE(encoder, decoder, AffineCoupling(MLP(1, (8,), 2)), 1)
        >>> game = LogisticGame("combined")
        >>> adversary = ScoreAdversary(MLP(2, (8,), 1), game, penalty_weight=100.0)
        >>> x = torch.randn(16, 2)
        >>> adversary(x, model.adversarial_samples(16).detach())["loss"].backward()
        >>> model.loss(x, adversary.network).loss.backward()
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        features: Transform,
        latent_size: int,
        *,
        encoder_input: EncoderInput = "features",
        coverage: bool = True,
        adversarial_weight: float = 100.0,
        sample_noise: bool = False,
        train_features: bool = False,
    ) -> None:
        super().__init__(encoder, decoder, features, latent_size, encoder_input=encoder_input)
        number("AVADE", "adversarial_weight", adversarial_weight)
        self.coverage = coverage
        self.adversarial_weight = adversarial_weight
        self.sample_noise = sample_noise
        self.train_features = train_features
        if not coverage:
            for part in (encoder, features):
                part.requires_grad_(False)
            self.log_std.requires_grad_(False)

    def loss(
        self,
        x: Tensor,
        critic: nn.Module | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> AVADELoss:
        """The generator's loss of data [N, ...], with as many samples, and no gradient in D.

        Args:
            x: data.
            critic: D, [N, ...] → logits [N] or [N, 1], such as the network of a
                `ScoreAdversary`; without it there is no L_Q.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of rows of the batch before these.

        Raises:
            ValueError: where neither term is left.
        """
        if critic is None and not self.coverage:
            raise ValueError("AVADE.loss: without coverage the loss needs a critic")
        if key is None:
            key = random_key(generator, device=x.device)
        total = x.new_zeros(())
        coverage = quality = None
        if self.coverage:
            coverage = self(x, key=key, first=first)
            total = total + coverage
        if critic is not None:
            samples = self.adversarial_samples(len(x), key=key, first=first)
            quality = adversarial_generator_loss(stop_gradient(critic)(samples))
            total = total + self.adversarial_weight * quality
        return AVADELoss(total, coverage, quality)

    def adversarial_samples(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The samples that the adversary judges; arguments as for `VADE.sample`, whose numbers they
        are but for batch normalisation in f, whose running averages they take."""
        if key is None:
            key = random_key(generator, device=like(self).device)
        y = self._sampled_features(num, self.sample_noise, key, first)
        with evaluating(self.features):
            if self.train_features:
                return self.features.inverse(y)[0]
            return stop_gradient(Inverse(self.features))(y)[0]
