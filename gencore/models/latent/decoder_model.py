"""Models of latents whose decoder parametrises the likelihood of data."""

from abc import abstractmethod
from typing import get_args

from torch import Generator, Tensor
from torch.distributions import Distribution

from gencore.choices import check_choice
from gencore.models.latent.decoder_likelihood import (
    BernoulliLikelihood,
    DecoderLikelihood,
    GaussianLikelihood,
)
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.models.latent.names import LikelihoodName
from gencore.models.starts import like
from gencore.nn.evaluating import evaluating
from gencore.ops import random_key
from gencore.ops.random import stream_key

__all__ = ["DecoderModel", "make_likelihood"]


class DecoderModel(ImportanceBounds, LatentGenerator):
    """A model of latents z whose p(x | z) is a `likelihood` around what a decoder gives."""

    likelihood: DecoderLikelihood

    @abstractmethod
    def decoded_noise(self, noise: Tensor) -> Tensor:
        """What the likelihood takes, of noise u [N, U] from which the prior makes latents."""

    @abstractmethod
    def decoded(self, z: Tensor) -> Tensor:
        """What the likelihood takes, of latents [N, L]."""

    def decode(self, z: Tensor) -> Tensor:
        """The expected data of latents [N, L]."""
        return self.likelihood.mean(self.decoded(z))

    def decode_noise(self, noise: Tensor) -> Tensor:
        """The expected data of noise u [N, U], which the prior makes latents of: f⁻¹(u) for that of
        a flow f."""
        return self.likelihood.mean(self.decoded_noise(noise))

    def likelihood_distribution(self, z: Tensor) -> Distribution:
        """p(x | z) of latents [N, L], with batch shape [N]."""
        return self.likelihood.distribution(self.decoded(z))

    def sample(
        self,
        num: int,
        *,
        noise: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data of latents from the prior, of the model in evaluation mode: the expected ones, or
        drawn.

        Args:
            num: number of samples.
            noise: whether they are drawn from p(x | z), as the model's density has it; the expected
                data are what images are shown by.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        with evaluating(self):
            decoded = self.decoded_noise(self.sample_noise(num, key=key, first=first))
        if noise:
            return self.likelihood.draw(decoded, stream_key(key, "samples"), first)
        return self.likelihood.mean(decoded)

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """log p(x | z), [N, K], of data [N, ...] and what was decoded of K latents of each of them,
        [N·K, ...].

        Raises:
            ValueError: the decoder has given another shape than the likelihood takes.
        """
        expected = self.likelihood.decoded_shape(x.shape[1:])
        if decoded.shape[1:] != expected:
            raise ValueError(
                f"{type(self).__name__}: the decoder gives {list(decoded.shape)}; expected "
                f"[N, {', '.join(map(str, expected))}] for data {list(x.shape)}"
            )
        decoded = decoded.to(x.dtype).unflatten(0, (len(x), -1))
        return self.likelihood.log_likelihood(decoded, x.unsqueeze(1))


def make_likelihood(owner: str, given: LikelihoodName | DecoderLikelihood) -> DecoderLikelihood:
    """The likelihood of a name, or what was given."""
    if isinstance(given, DecoderLikelihood):
        return given
    check_choice(owner, "likelihood", given, get_args(LikelihoodName))
    return GaussianLikelihood() if given == "gaussian" else BernoulliLikelihood()
