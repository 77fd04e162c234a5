"""A regularised autoencoder, and a mixture of Gaussians of its codes (Ghosh et al. 2020)."""

from typing import NamedTuple

from torch import Tensor

from gencore.models.latent.autoencoder import Autoencoder
from gencore.models.latent.gaussian_mixture import GaussianMixture
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.ops._support.checks import number

__all__ = ["RAELoss", "RegularisedAutoencoder"]


class RAELoss(NamedTuple):
    """Means over a batch."""

    loss: Tensor
    """reconstruction + code_penalty·squared_norm, a scalar."""
    reconstruction: Tensor
    """The mean distance of data from their reconstructions."""
    squared_norm: Tensor
    """The mean of ‖z‖²."""


class RegularisedAutoencoder(LatentGenerator):
    r"""RAE + GMM: an autoencoder with small codes, and after training a mixture of their density.

    .. math:: L = L_{recon}(x, G(E(x))) + \gamma \lVert E(x) \rVert^2

    Args:
        autoencoder: E, G and the distance L_recon.
        code_penalty: γ.
        num_components: of the mixture.

    Raises:
        ValueError: for a negative penalty.

    References:
        Ghosh, Sajjadi, Vergari, Black and Schölkopf, "From Variational to Deterministic
        Autoencoders", 2020. Yan, "Deep Generative Models: Design, Improvements and Applications",
        2022, §3.2.6, whose γ is 0.5; that the norm is squared is the paper's.

    Example:
        >>> import torch
        >>> from gencore.models import Autoencoder, RegularisedAutoencoder
        >>> autoencoder = Autoencoder(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3), 2)
        >>> rae, x = RegularisedAutoencoder(autoencoder, num_components=3), torch.randn(100, 3)
        >>> rae(x).loss.backward()
        >>> _ = rae.mixture.fit(rae.encode(x))
        >>> rae.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        code_penalty: float = 0.5,
        num_components: int = 10,
    ) -> None:
        super().__init__()
        number("RegularisedAutoencoder", "code_penalty", code_penalty)
        self.autoencoder, self.code_penalty = autoencoder, code_penalty
        self.mixture = GaussianMixture(autoencoder.latent_size, num_components)
        self.noise_size = 1 + autoencoder.latent_size

    def forward(self, x: Tensor) -> RAELoss:
        """The loss of data [N, ...]."""
        codes, error = self.autoencoder(x)
        reconstruction, squared_norm = error.mean(), codes.square().sum(1).mean()
        loss = reconstruction + self.code_penalty * squared_norm
        return RAELoss(loss, reconstruction, squared_norm)

    def encode(self, x: Tensor) -> Tensor:
        """Codes [N, L] of data."""
        return self.autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Data of codes [N, L]."""
        return self.autoencoder.decode(z)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data of noise [N, 1 + L], of which the first number chooses a component.

        Raises:
            ValueError: the mixture is not fitted.
        """
        if not self.mixture.is_fitted:
            raise ValueError(
                "RegularisedAutoencoder: there are no samples before the mixture is fitted to "
                "codes: model.mixture.fit(model.encode(x))"
            )
        return self.decode(self.mixture.from_noise(noise))

    def extra_repr(self) -> str:
        return f"code_penalty={self.code_penalty}"
