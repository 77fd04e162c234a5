"""Generators of data by codes, and frozen copies of generators."""

from abc import abstractmethod
from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn

from gencore.inference.gaussian_posterior import NormalParameters
from gencore.models.noise_generator import NoiseGenerator

__all__ = ["FrozenGenerator", "LatentGenerator"]

T = TypeVar("T", bound="FrozenGenerator")


class LatentGenerator(NoiseGenerator):
    """A generator whose samples are decoded codes z, and that codes data.

    The noise is that of the prior of the latents: z = u for a standard normal prior, z = f⁻¹(u) for
    the prior of a flow f.
    """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor | NormalParameters:
        """The codes [N, L] of data [N, ...], or their posterior."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The data [N, ...] of codes [N, L]."""

    def codes(self, x: Tensor) -> Tensor:
        """One code a data point, [N, L]: of a posterior its mean."""
        encoded = self.encode(x)
        return encoded.mean if isinstance(encoded, NormalParameters) else encoded

    def reconstruct(self, x: Tensor) -> Tensor:
        """The data of the codes of data [N, ...]."""
        return self.decode(self.codes(x))


class FrozenGenerator(nn.Module):
    """A copy of a generator that is trained no more, as a module from noise [N, U] to data.

    Its parameters require no gradients and it stays in evaluation whatever `train` is told, so that
    another model can be built on it, such as :class:`gencore.models.LatentEBM`.

    Args:
        model: the generator, which is left as it is.

    Example:
        >>> import torch
        >>> from gencore.models import VAE, FrozenGenerator, LatentEBM
        >>> from gencore.nn import MLP, MLPEnergy
        >>> base = FrozenGenerator(VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2))
        >>> ebm = LatentEBM(base, MLPEnergy(3), (base.noise_size,), num_steps=2)
        >>> ebm.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(self, model: NoiseGenerator) -> None:
        super().__init__()
        self.model = deepcopy(model).requires_grad_(False).eval()
        self.noise_size = model.noise_size

    def forward(self, noise: Tensor) -> Tensor:
        """The data of noise [N, U]."""
        return self.model.decode_noise(noise)

    def train(self: T, mode: bool = True) -> T:
        """Does nothing to the generator."""
        super().train(mode)
        self.model.eval()
        return self
