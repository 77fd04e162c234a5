"""The deterministic autoencoder, whose codes other models give a density."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gencore.ops._support.checks import check_count

__all__ = ["Autoencoder", "Coded", "Distance", "half_squared_error"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""(x, decoded) ↦ [N], 0 where the two are equal."""


class Coded(NamedTuple):
    """Data points after an autoencoder."""

    codes: Tensor
    """[N, L]."""
    error: Tensor
    """The distance of each data point from its reconstruction, [N]."""


def half_squared_error(x: Tensor, decoded: Tensor) -> Tensor:
    """½‖x − x̂‖², [N]: −log N(x; x̂, I) but for its constant."""
    return 0.5 * mse_loss(decoded, x, reduction="none").flatten(1).sum(1)


class Autoencoder(nn.Module):
    """Codes z = E(x) of data and their reconstructions G(z).

    Args:
        encoder: E, data [N, ...] → [N, L].
        decoder: G, codes [N, L] → data.
        latent_size: L.
        distance: of data from their reconstructions; ½‖x − x̂‖² by default. A module, such as
            :class:`gencore.nn.PerceptualDistance`, becomes a part of this one.

    Raises:
        ValueError: on a call, if the encoder or the decoder gives another shape.

    Example:
        >>> import torch
        >>> from gencore.models import Autoencoder
        >>> autoencoder = Autoencoder(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3), 2)
        >>> codes, error = autoencoder(torch.zeros(5, 3))
        >>> codes.shape, error.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_size: int,
        *,
        distance: Distance = half_squared_error,
    ) -> None:
        super().__init__()
        check_count("Autoencoder", "latent_size", latent_size, least=1)
        self.encoder, self.decoder = encoder, decoder
        self.latent_size = latent_size
        self.distance = distance

    def forward(self, x: Tensor) -> Coded:
        """Codes and errors of data [N, ...]."""
        codes = self.encode(x)
        decoded = self.decode(codes)
        if decoded.shape != x.shape:
            raise ValueError(
                f"Autoencoder: the decoder gives {list(decoded.shape)} for data {list(x.shape)}; "
                "expected the same shape"
            )
        return Coded(codes, self.distance(x, decoded.to(x.dtype)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes [N, L] of data."""
        codes: Tensor = self.encoder(x)
        if codes.shape != (len(x), self.latent_size):
            raise ValueError(
                f"Autoencoder: the encoder gives {list(codes.shape)} for data {list(x.shape)}; "
                f"expected {[len(x), self.latent_size]}"
            )
        return codes.to(x.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Data of codes [N, L]."""
        x: Tensor = self.decoder(codes)
        return x
