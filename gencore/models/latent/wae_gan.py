"""The Wasserstein autoencoder with an adversary of its codes (Tolstikhin et al. 2018)."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.latent.autoencoder import Autoencoder, Coded
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.starts import normal_starts
from gencore.nn import stop_gradient
from gencore.nn.evaluating import evaluating
from gencore.objectives import adversarial_discriminator_loss, adversarial_generator_loss
from gencore.ops._support.checks import finite, number

__all__ = ["WAEGAN", "WAELoss"]


class WAELoss(NamedTuple):
    """Means over a batch, for the autoencoder."""

    loss: Tensor
    """reconstruction + adversary_weight·adversarial, a scalar."""
    reconstruction: Tensor
    """The mean distance of data from their reconstructions."""
    adversarial: Tensor
    """The mean of -log D(z) of the codes, which are to be taken for draws from the prior."""


class WAEGAN(LatentGenerator):
    r"""An autoencoder whose codes an adversary D holds against draws from a prior N(0, s²I).

    .. math:: \min_{E, G}\ L_{recon}(x, G(E(x))) - \lambda \log D(E(x)), \qquad
              \max_D\ \lambda\left[\log D(z) + \log(1 - D(E(x)))\right], \quad z \sim N(0, s^2 I)

    A call is the autoencoder's loss and has no gradient in the adversary, whose loss is
    `adversary_loss`; each has an optimiser of its own. The adversary's λ only scales its gradients,
    which Adam undoes, and is left out.

    Args:
        autoencoder: E, G and the distance L_recon.
        adversary: the logits of D, [N, L] → [N, 1]. That of the thesis has four hidden layers of
            512 rectified units: ``MLP(L, (512,) * 4, 1, activation="relu", zero_last=False)``.
        adversary_weight: λ.
        prior_std: s.

    Raises:
        ValueError: for a standard deviation that is not positive, or a negative weight.

    References:
        Tolstikhin, Bousquet, Gelly and Schölkopf, "Wasserstein Auto-Encoders", 2018, Algorithm 1.
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §3.2.6.

    Example:
        >>> import torch
        >>> from gencore.models import WAEGAN, Autoencoder
        >>> from gencore.nn import MLP
        >>> autoencoder = Autoencoder(MLP(3, (8,), 2), MLP(2, (8,), 3), 2)
        >>> wae, x = WAEGAN(autoencoder, MLP(2, (8,), 1)), torch.randn(16, 3)
        >>> wae.adversary_loss(x, wae.sample_prior(16)).backward()
        >>> wae(x).loss.backward()
        >>> wae.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        adversary: nn.Module,
        *,
        adversary_weight: float = 10.0,
        prior_std: float = 1.0,
    ) -> None:
        super().__init__()
        number("WAEGAN", "adversary_weight", adversary_weight)
        finite("WAEGAN", "prior_std", prior_std)
        if prior_std <= 0:
            raise ValueError(f"WAEGAN: prior_std is {prior_std}; expected a positive number")
        self.autoencoder, self.adversary = autoencoder, adversary
        self.noise_size = autoencoder.latent_size
        self.adversary_weight, self.prior_std = adversary_weight, prior_std

    def forward(self, x: Tensor) -> WAELoss:
        """The autoencoder's loss of data [N, ...]."""
        return self.loss(self.autoencoder(x))

    def loss(self, coded: Coded) -> WAELoss:
        """The autoencoder's loss of data that it has coded."""
        logits = stop_gradient(self.adversary)(coded.codes)
        reconstruction = coded.error.mean()
        adversarial = adversarial_generator_loss(logits, "non-saturating")
        loss = reconstruction + self.adversary_weight * adversarial
        return WAELoss(loss, reconstruction, adversarial)

    def adversary_loss(self, x: Tensor, prior: Tensor) -> Tensor:
        """The adversary's loss −log D(z) − log(1 − D(E(x))) in the mean, a scalar.

        The autoencoder is in evaluation mode: it gets no gradient, and its batch statistics stay as
        they are.

        Args:
            x: data [N, ...].
            prior: draws z from the prior, [M, L], from `sample_prior`.
        """
        with torch.no_grad(), evaluating(self.autoencoder):
            codes = self.encode(x)
        return adversarial_discriminator_loss(self.adversary(prior), self.adversary(codes))

    def sample_prior(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Draws z ~ N(0, s²I), [num, L]; arguments as for `sample`, of which one key gives other
        draws."""
        return self.prior_std * normal_starts(
            self, num, (self.noise_size,), generator=generator, key=key, first=first,
            stream="prior",
        )  # fmt: skip

    def encode(self, x: Tensor) -> Tensor:
        """Codes [N, L] of data."""
        return self.autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Data of codes [N, L]."""
        return self.autoencoder.decode(z)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data G(s·u) of noise u, [N, L]."""
        return self.decode(self.prior_std * noise)

    def extra_repr(self) -> str:
        return f"adversary_weight={self.adversary_weight}, prior_std={self.prior_std}"
