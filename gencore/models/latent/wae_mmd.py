"""The Wasserstein autoencoder with a kernel distance of its codes (Tolstikhin et al. 2018)."""

from typing import NamedTuple

from torch import Generator, Tensor

from gencore.metrics import InverseMultiquadraticKernel, Kernel
from gencore.models.latent.autoencoder import Autoencoder
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.starts import normal_starts
from gencore.objectives import maximum_mean_discrepancy
from gencore.ops import random_key
from gencore.ops._support.checks import finite, number

__all__ = ["WAEMMD", "WAEMMDLoss"]

# Of the kernel, in units of the prior's mean squared distance 2Ls².
_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WAEMMDLoss(NamedTuple):
    """Of a batch."""

    loss: Tensor
    """reconstruction + divergence_weight·divergence, a scalar."""
    reconstruction: Tensor
    """The mean distance of data from their reconstructions."""
    divergence: Tensor
    """The squared maximum mean discrepancy of the codes from draws of the prior."""


class WAEMMD(LatentGenerator):
    r"""An autoencoder whose codes, as a whole, are to have the law of a prior N(0, s²I).

    .. math:: \min_{E, G}\ L_{recon}(x, G(E(x))) + \lambda\, MMD^2(E(x), z), \quad
              z \sim N(0, s^2 I)

    There is no adversary: the divergence of the two laws is estimated by kernels, without bias.

    Args:
        autoencoder: E, G and the distance L_recon.
        divergence_weight: λ.
        prior_std: s.
        kernel: of codes, one of :mod:`gencore.metrics` or any function of [N, L] and [M, L] to
            [N, M]; if None, inverse multiquadratics of .1 to 10 times the prior's mean squared
            distance 2Ls².

    Raises:
        ValueError: for a standard deviation that is not positive, a negative weight, or on a call a
            batch of fewer than two.

    References:
        Tolstikhin, Bousquet, Gelly and Schölkopf, "Wasserstein Auto-Encoders", 2018, Algorithm 2.
        Bruna, "Inference and Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.models import WAEMMD, Autoencoder
        >>> from gencore.nn import MLP
        >>> wae = WAEMMD(Autoencoder(MLP(3, (8,), 2), MLP(2, (8,), 3), 2))
        >>> wae(torch.randn(16, 3)).loss.backward()
        >>> wae.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        divergence_weight: float = 10.0,
        prior_std: float = 1.0,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        number("WAEMMD", "divergence_weight", divergence_weight)
        finite("WAEMMD", "prior_std", prior_std)
        if prior_std <= 0:
            raise ValueError(f"WAEMMD: prior_std is {prior_std}; expected a positive number")
        self.autoencoder = autoencoder
        self.noise_size = autoencoder.latent_size
        self.divergence_weight, self.prior_std = divergence_weight, prior_std
        unit = 2 * self.noise_size * prior_std**2
        if kernel is None:
            kernel = InverseMultiquadraticKernel(tuple(unit * scale for scale in _SCALES))
        self.kernel = kernel

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> WAEMMDLoss:
        """The loss of data [N, ...]; the rest as for `sample`, of the draws from the prior.

        The divergence is that of the batch that is given, and of no other process' part.
        """
        key = random_key(generator, device=x.device) if key is None else key
        coded = self.autoencoder(x)
        prior = self.prior_std * normal_starts(
            self, len(x), (self.noise_size,), key=key, first=first, stream="prior"
        )
        divergence = maximum_mean_discrepancy(coded.codes, prior.to(coded.codes.dtype), self.kernel)
        reconstruction = coded.error.mean()
        loss = reconstruction + self.divergence_weight * divergence
        return WAEMMDLoss(loss, reconstruction, divergence)

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
        return f"divergence_weight={self.divergence_weight}, prior_std={self.prior_std}"
