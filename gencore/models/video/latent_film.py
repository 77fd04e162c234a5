"""Models of films with latents whose posterior is sampled by Langevin dynamics."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn

from gencore.inference import LatentLangevin, Latents, LatentShapes
from gencore.models.starts import like
from gencore.nn.evaluating import evaluating
from gencore.ops import random_key
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["LatentFilmModel"]


class LatentFilmModel(nn.Module, ABC):
    r"""Films x with latents z ~ N(0, I) of several kinds, and no encoder that infers them.

    A subclass says which latents a film has and how likely it is given them. Latents are sampled
    from the posterior by backpropagation through time, and weights learn by alternation: some steps
    of the chains, then one of the weights up the gradient of `log_likelihood` with the latents
    held fixed.
    """

    num_given: int = 0
    """Frames at a film's start that are given, and have no latents of their own."""

    @abstractmethod
    def latent_shapes(self, num_frames: int) -> LatentShapes:
        """The latents of a film of T frames, without those that are given."""

    @abstractmethod
    def log_likelihood(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """log p(x | z) of films [N, T, ...] over the pixels that are visible, [N], up to a
        constant."""

    def log_joint(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """log p(z, x) = log p(x | z) − ‖z‖² / 2 up to a constant, [N]."""
        parts = [latent.reshape(len(latent), -1) for latent in latents.values()]
        squares = [part.to(accumulation_dtype(part)).square().sum(1) for part in parts]
        return self.log_likelihood(frames, latents, mask) - 0.5 * torch.stack(squares).sum(0)

    def posterior_energy(
        self, frames: Tensor, mask: Tensor | None = None
    ) -> Callable[[Latents], Tensor]:
        """−log p(x | z) as a function of latents alone, what `LatentLangevin` and `LatentChains`
        ask for."""
        return lambda latents: -self.log_likelihood(frames, latents, mask)

    def prior_latents(
        self,
        num: int,
        num_frames: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Latents:
        """Latents of N films of T frames from their prior.

        Args:
            num: N.
            num_frames: T, without frames that are given.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of films before these, of other processes.
        """
        of = like(self)
        return self.latent_shapes(num_frames).normal(
            num, generator=generator, key=key, first=first, dtype=of.dtype, device=of.device
        )

    def infer(
        self,
        frames: Tensor,
        langevin: LatentLangevin | None = None,
        *,
        mask: Tensor | None = None,
        start: Mapping[str, Tensor] | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Latents:
        """Latents from the posterior p(z | x), after Langevin steps (3.4).

        Args:
            frames: films, as of `log_likelihood`.
            langevin: the dynamics; ``LatentLangevin()`` if None.
            mask: where pixels are visible, as of `log_likelihood`.
            start: where the chains start; draws from the prior if None.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of films before these, of other processes.

        Returns:
            The latents, without a graph.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        if start is None:
            num_frames = frames.shape[1] - self.num_given
            start = self.prior_latents(len(frames), num_frames, key=key, first=first)
        with evaluating(self):
            return (langevin or LatentLangevin()).sample(
                self.posterior_energy(frames, mask), start, key=key, first=first
            )
