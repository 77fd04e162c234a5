"""Generative latent optimisation: a decoder and a code for each data point (Bojanowski 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencore.inference.data_latents import DataLatents
from gencore.inference.latent_optimisation import optimise_latents
from gencore.models.latent.autoencoder import Distance, half_squared_error
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.ops._support.checks import check_count

__all__ = ["GLO", "to_unit_ball"]


def to_unit_ball(z: Tensor) -> Tensor:
    """Latents [N, L], those longer than 1 cut to 1."""
    return z / z.norm(dim=1, keepdim=True).clamp(min=1)


class GLO(LatentGenerator):
    r"""A decoder G and, in the place of an encoder, a code for every data point.

    .. math:: \min_\theta \frac1N \sum_n \min_{z_n \in Z} \ell(x_n, G_\theta(z_n))

    A training step takes steps of Adam on the codes of its batch, projects them onto Z, and then
    gives the loss of the decoder with the codes held fixed. There is no density of codes in
    training; samples are drawn from the Gaussian with the mean and the covariance of all codes.

    Args:
        decoder: G, codes [N, L] → data.
        latents: the table of codes, [M, L], with its own Adam and projection; for Z the unit ball,
            ``DataLatents(to_unit_ball(torch.randn(M, L)), project=to_unit_ball)``.
        distance: ℓ, (x, decoded) ↦ [N]; ½‖x − x̂‖² by default, and for images
            :func:`gencore.objectives.laplacian_distance` in the source.
        num_inner_steps: steps on the codes in a training step; 1 in the source.

    Raises:
        ValueError: the codes are not [M, L], and on a call if the decoder gives another shape than
            that of the data.

    References:
        Bojanowski, Joulin, Lopez-Paz and Szlam, "Optimizing the latent space of generative
        networks", 2018, (2). Bruna, "Inference and Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.inference import DataLatents
        >>> from gencore.models import GLO, to_unit_ball
        >>> from gencore.nn import MLP
        >>> x = torch.randn(100, 3)
        >>> codes = DataLatents(to_unit_ball(torch.randn(100, 2)), project=to_unit_ball)
        >>> glo, index = GLO(MLP(2, (8,), 3), codes), torch.arange(20)
        >>> glo(x[index], index).backward()
        >>> glo.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        decoder: nn.Module,
        latents: DataLatents,
        *,
        distance: Distance = half_squared_error,
        num_inner_steps: int = 1,
    ) -> None:
        super().__init__()
        check_count("GLO", "num_inner_steps", num_inner_steps, least=0)
        if latents.values.dim() != 2:
            raise ValueError(
                f"GLO: latents have shape {list(latents.values.shape)}; expected [M, L]"
            )
        self.decoder, self.latents = decoder, latents
        self.distance, self.num_inner_steps = distance, num_inner_steps
        self.noise_size = latents.values.shape[1]

    def forward(self, x: Tensor, index: Tensor, *, factor: float = 1.0) -> Tensor:
        """The mean loss of training points, a scalar, after the steps on their codes.

        Args:
            x: data [N, ...].
            index: which training points they are, int64 [N].
            factor: of the codes' learning rate.
        """
        return self._loss(x)(self.descend(x, index, factor=factor)).mean()

    def descend(self, x: Tensor, index: Tensor, *, factor: float = 1.0) -> Tensor:
        """The codes [N, L] of training points after the steps on them, which the table keeps;
        arguments as for the loss."""
        return self.latents.descend(
            self._loss(x), index, num_steps=self.num_inner_steps, factor=factor
        )

    def encode(self, x: Tensor, num_steps: int = 200) -> Tensor:
        """Codes [N, L] of other data, by steps of the same Adam from the mean of all codes."""
        start = self.latents.values.mean(0).expand(len(x), -1)
        codes, _ = optimise_latents(
            self._loss(x), start, num_steps=num_steps, optimizer=self.latents.optimizer,
            project=self.latents.project,
        )  # fmt: skip
        return codes

    def decode(self, z: Tensor) -> Tensor:
        """Data of codes [N, L]."""
        x: Tensor = self.decoder(z)
        return x

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data of codes μ + Cu of noise u, with the mean μ and the covariance CCᵀ of all codes.

        Raises:
            torch.linalg.LinAlgError: the codes lie in a plane.
        """
        values = self.latents.values
        covariance = torch.cov(values.T).reshape(self.noise_size, self.noise_size)
        return self.decode(values.mean(0) + noise @ torch.linalg.cholesky(covariance).T)

    def _loss(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        def loss(z: Tensor) -> Tensor:
            decoded = self.decode(z)
            if decoded.shape != x.shape:
                raise ValueError(
                    f"GLO: the decoder gives {list(decoded.shape)} for codes {list(z.shape)} and "
                    f"data {list(x.shape)}; expected the shape of the data"
                )
            return self.distance(x, decoded)

        return loss
