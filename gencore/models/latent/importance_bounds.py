"""Bounds of log p(x) from importance weights of latents."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from gencore.ops import random_key
from gencore.samplers.chains import check_count

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
        first_sample: int = 0,
    ) -> Tensor:
        """log p(x, z) − log q(z | x) of `num` latents z of each data point, [N, num].

        Args:
            x: data [N, ...].
            num: latents of each.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            first_sample: number of latents of each data point before these.
        """

    def elbo(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        **given: Any,
    ) -> Tensor:
        """Estimates, from one latent a data point, of a lower bound of log p(x), [N].

        Args:
            x: data [N, ...].
            given: what else `log_weights` takes: of a :class:`VAE` ``posterior=q``, q in the place
                of the model's own; of a :class:`DisentanglingVAE` ``s=s``.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
        """
        if key is None:
            key = random_key(generator, device=x.device)
        return self.log_weights(x, 1, key=key, first=first, **given).squeeze(1)

    def log_prob_bound(
        self,
        x: Tensor,
        num_samples: int,
        *,
        chunk_size: int | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        **given: Any,
    ) -> Tensor:
        r"""The importance-weighted bound of log p(x), [N]:

        .. math:: L_K(x) = \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)} ,
                  \quad z_k \sim q(z \mid x)

        Its expectation grows with K towards log p(x); that of its exponential is p(x).

        Args:
            x: data [N, ...].
            num_samples: K.
            chunk_size: how many latents of a data point are in memory at once; all if None. The
                value is the same to rounding. Where a gradient is needed the chunks are computed
                once more on the way back, so that its memory is that of a chunk too.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            given: as for `elbo`.

        Source:
            Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016, (8).
        """
        owner = f"{type(self).__name__}.log_prob_bound"
        check_count(owner, "num_samples", num_samples, least=1)
        chunk_size = num_samples if chunk_size is None else chunk_size
        check_count(owner, "chunk_size", chunk_size, least=1)
        if key is None:
            key = random_key(generator, device=x.device)

        def log_sum(start: int) -> Tensor:
            num = min(chunk_size, num_samples - start)
            weights = self.log_weights(x, num, key=key, first=first, first_sample=start, **given)
            return weights.logsumexp(1)

        total = None
        for start in range(0, num_samples, chunk_size):
            if torch.is_grad_enabled() and chunk_size < num_samples:
                part = checkpoint(log_sum, start, use_reentrant=False)
            else:
                part = log_sum(start)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return total - math.log(num_samples)
