"""An autoencoder whose codes have the density of a flow (Yan 2022, §3.2)."""

from typing import NamedTuple

from torch import Tensor

from gencore.models.flows.flow import Flow
from gencore.models.latent.autoencoder import Autoencoder
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.latent.latent_prior import check_prior
from gencore.ops._support.checks import number

__all__ = ["GLFLoss", "GenerativeLatentFlow"]


class GLFLoss(NamedTuple):
    """Means over a batch."""

    loss: Tensor
    """recon_weight·reconstruction + nll, a scalar."""
    reconstruction: Tensor
    """The mean distance of data from their reconstructions."""
    nll: Tensor
    """The mean of -log p(z) of the codes under the flow, in nats."""


class GenerativeLatentFlow(LatentGenerator):
    r"""Generative latent flow: an autoencoder, and a flow of its codes from which samples come.

    .. math:: L = L_{recon}(x, G(E(x))) - \log p_f(\mathrm{sg}[E(x)]) \qquad (3.3)

    .. math:: L^{reg}_\beta = \beta\, L_{recon}(x, G(E(x))) - \log p_f(E(x)) \qquad (3.2)

    Samples are G(f⁻¹(u)), u ~ N(0, I). The stop-gradient sg leaves the encoder to the
    reconstruction: the flow gains log(1/c) nats a dimension where the codes shrink by c, so that
    without it, in the regularised form, the codes degenerate unless β is large. With it training
    the two at once, or the autoencoder first and then the flow, minimises the same losses.

    Args:
        autoencoder: E, G and the distance that L_recon is.
        flow: f with its density p_f, over [L], with normal latents and without a context.
        regularised: train the encoder by the density as well, (3.2).
        recon_weight: β. With the stop-gradient each part of the model has one of the terms alone.

    Raises:
        ValueError: for a flow that does not fit, or a negative weight.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §3.2.3. Xiao,
        Yan and Amit, "Generative Latent Flow", 2019.

    Example:
        >>> import torch
        >>> from gencore.models import Autoencoder, CouplingFlow, GenerativeLatentFlow
        >>> from gencore.nn import MLP
        >>> autoencoder = Autoencoder(MLP(3, (8,), 2), MLP(2, (8,), 3), 2)
        >>> glf = GenerativeLatentFlow(autoencoder, CouplingFlow(2, hidden_widths=(8,)))
        >>> glf(torch.randn(16, 3)).loss.backward()
        >>> glf.interpolate(torch.zeros(4, 2), torch.ones(4, 2), steps=5).shape
        torch.Size([4, 5, 3])
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        flow: Flow,
        *,
        regularised: bool = False,
        recon_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_prior("GenerativeLatentFlow", flow, autoencoder.latent_size)
        number("GenerativeLatentFlow", "recon_weight", recon_weight)
        self.autoencoder, self.flow = autoencoder, flow
        self.noise_size = autoencoder.latent_size
        self.regularised, self.recon_weight = regularised, recon_weight

    def forward(self, x: Tensor) -> GLFLoss:
        """The loss of data [N, ...]."""
        codes, error = self.autoencoder(x)
        reconstruction = error.mean()
        nll = -self.flow.log_prob(codes if self.regularised else codes.detach()).mean()
        return GLFLoss(self.recon_weight * reconstruction + nll, reconstruction, nll)

    def encode(self, x: Tensor) -> Tensor:
        """Codes [N, L] of data."""
        return self.autoencoder.encode(x)

    def encode_noise(self, x: Tensor) -> Tensor:
        """The noise f(E(x)) of data, [N, L], which `decode_noise` reconstructs them from."""
        noise: Tensor = self.flow.transform(self.encode(x))[0]
        return noise

    def decode(self, z: Tensor) -> Tensor:
        """Data of codes [N, L]."""
        return self.autoencoder.decode(z)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data G(f⁻¹(u)) of noise u, [N, L]."""
        return self.decode(self.flow.transform.inverse(noise)[0])

    def extra_repr(self) -> str:
        return f"regularised={self.regularised}, recon_weight={self.recon_weight}"
