"""The generative moment matching network: a generator held against data by kernels."""

from torch import Generator, Tensor, nn

from gencore.metrics import InverseMultiquadraticKernel, Kernel
from gencore.models.noise_generator import NoiseGenerator
from gencore.models.starts import normal_starts
from gencore.objectives import maximum_mean_discrepancy
from gencore.sizes import check_positive

__all__ = ["GMMN"]


class GMMN(NoiseGenerator):
    r"""A generator that learns from a fixed distance of batches, without an adversary.

    .. math:: \min_\theta MMD^2(x, G_\theta(z)), \qquad z \sim N(0, I)

    The squared distance is estimated without bias, so that for equal laws the loss is 0 on average
    and its gradient too. Kernels compare the data as they are, which is of use for vectors or small
    images.

    Args:
        generator: G, noise [N, L] → data [N, ...].
        noise_size: L.
        kernel: as of :func:`gencore.objectives.maximum_mean_discrepancy`.

    Raises:
        ValueError: for a noise size below 1, and on a call for fewer than two data points, samples
            of another shape than data, or what the distance refuses.

    References:
        Li, Swersky and Zemel, "Generative moment matching networks", 2015, with the square in the
        place of its root. Dziugaite, Roy and Ghahramani, "Training generative neural networks via
        maximum mean discrepancy optimization", 2015. Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, §4.2.

    Example:
        >>> import torch
        >>> from gencore.models import GMMN
        >>> from gencore.nn import MLP
        >>> model = GMMN(MLP(4, (16,), 2, zero_last=False), 4)
        >>> model(torch.randn(32, 2)).backward()
        >>> model.sample(5).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        generator: nn.Module,
        noise_size: int,
        *,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        check_positive("GMMN", noise_size=noise_size)
        self.generator, self.noise_size = generator, noise_size
        self.kernel = InverseMultiquadraticKernel() if kernel is None else kernel

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The squared distance of as many samples from data [N, ...], a scalar.

        Args:
            x: data.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise.
            first: number of rows of the batch before these. The distance is that of the rows that
                are given, and of no other process' part.
        """
        noise = normal_starts(
            self, len(x), (self.noise_size,), generator=generator, key=key, first=first,
            stream="prior",
        )  # fmt: skip
        samples = self.decode_noise(noise)
        if samples.shape != x.shape:
            raise ValueError(
                f"GMMN: the generator gives {list(samples.shape)}; expected {list(x.shape)}, as "
                "the data"
            )
        return maximum_mean_discrepancy(x.flatten(1), samples.flatten(1), self.kernel)

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data [N, ...] of noise [N, L]."""
        x: Tensor = self.generator(noise)
        return x

    def extra_repr(self) -> str:
        return f"noise_size={self.noise_size}, kernel={self.kernel}"
