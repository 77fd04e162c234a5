"""Bounds of log p(x) from importance weights of latents."""

from abc import ABC, abstractmethod

from torch import Generator, Tensor, nn

from gencore.models.log_mean_exp import log_mean_exp

__all__ = ["ImportanceBounds"]


class ImportanceBounds(nn.Module, ABC):
    """A model of data x with latents z ~ q(z | x), whose importance weights p(x, z)/q(z | x) bound
    its likelihood."""

    @abstractmethod
    def log_weights(
        self,
        x: Tensor,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num]."""

    def elbo(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Estimates, from one latent a data point, of a lower bound of log p(x), [N].

        Args:
            x: data [N, ...].
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
        """
        return self.log_weights(x, 1, generator=generator, key=key, first=first).squeeze(1)

    def importance_log_prob(
        self,
        x: Tensor,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The logarithm of the mean of `num` importance weights, [N]: on average a lower bound of
        log p(x), whose exponential is unbiased. Arguments as for `elbo`."""
        weights = self.log_weights(x, num, generator=generator, key=key, first=first)
        return log_mean_exp(weights, 1)
