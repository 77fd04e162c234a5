"""Bounds of log p(x) from importance weights of latents."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from gencore.choices import check_choice
from gencore.inference.names import ElboEstimator
from gencore.models.latent.names import BoundEstimator
from gencore.objectives.score_function import Baseline, score_function_surrogate
from gencore.ops import random_key
from gencore.ops._support.checks import check_count

__all__ = ["ImportanceBounds", "WeighedLatents"]


class WeighedLatents(NamedTuple):
    """K latents z ~ q(z | x) of each of N data points."""

    z: Tensor
    """[N, K, L]."""
    log_q: Tensor
    """log q(z | x), [N, K]."""
    log_weights: Tensor
    """log p(x, z)/q(z | x), [N, K]."""


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

    def weigh(
        self,
        x: Tensor,
        num: int,
        *,
        key: Tensor,
        first: int = 0,
        first_sample: int = 0,
        estimator: ElboEstimator = "reparametrised",
    ) -> WeighedLatents:
        """The same latents with their weights, and a choice where gradients by q pass.

        Args:
            x: as for `log_weights`, like the other arguments.
            estimator: "reparametrised", through z and log q; "path", through z alone, with the
                parameters of q in log q held fixed; "score", through log q alone, with z held
                fixed.

        Raises:
            NotImplementedError: the model has `log_weights` alone.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: estimator is {estimator!r}; expected 'reparametrised', the "
            "one that it has"
        )

    def _once(self, x: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        """What `log_weights` is given of data x chunk by chunk, with what it need not compute in
        each."""
        return given

    def elbo(
        self,
        x: Tensor,
        num_samples: int = 1,
        *,
        estimator: ElboEstimator = "reparametrised",
        baseline: Baseline = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        **given: Any,
    ) -> Tensor:
        r"""Estimates of a lower bound of log p(x), [N]: means of log w = log p(x, z) − log q(z | x)
        over latents z ~ q of each data point.

        The value is that of the latents, whatever the estimator of the gradient. By p the gradient
        is that of the value too; by the parameters φ of q it has the same expectation by

        ==================  =============================  =========================================
        estimator           gradient of one latent         noise
        ==================  =============================  =========================================
        ``reparametrised``  ∂log w/∂z · ∂z/∂φ − ∂log q/∂φ  little
        ``path``            ∂log w/∂z · ∂z/∂φ              none where q is the posterior
        ``score``           (log w − b) ∂log q/∂φ          much, but no derivative by z is needed
        ==================  =============================  =========================================

        Args:
            x: data [N, ...].
            num_samples: latents of each.
            estimator: as above.
            baseline: b of "score": a tensor [N], or what broadcasts to it, which does not depend on
                the latents; or "leave_one_out", the mean over the other latents of x; 0 if None.
            given: what else `log_weights` takes: of a :class:`VAE` ``posterior=q``, q in the place
                of the model's own; of a :class:`DisentanglingVAE` ``s=s``.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.

        Raises:
            ValueError: for another estimator, or a baseline that it does not have.

        Source:
            Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. Roeder, Wu and Duvenaud,
            "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational
            Inference", 2017: path. :func:`~gencore.objectives.score_function_surrogate`: score.
        """
        owner = f"{type(self).__name__}.elbo"
        check_count(owner, "num_samples", num_samples, least=1)
        check_choice(owner, "estimator", estimator, get_args(ElboEstimator))
        if baseline is not None and estimator != "score":
            raise ValueError(
                f"{owner}: a baseline is given with estimator {estimator}; expected None, or score"
            )
        if key is None:
            key = random_key(generator, device=x.device)
        if estimator == "reparametrised":
            return self.log_weights(x, num_samples, key=key, first=first, **given).mean(1)
        drawn = self.weigh(x, num_samples, key=key, first=first, estimator=estimator, **given)
        values = drawn.log_weights
        if estimator == "score":
            # The score of q itself, which log w has in its gradient, is 0 on average.
            values = values + (drawn.log_q - drawn.log_q.detach())
            values = score_function_surrogate(drawn.log_q.T, values.T, baseline).T
        return values.mean(1)

    def log_prob_bound(
        self,
        x: Tensor,
        num_samples: int,
        *,
        chunk_size: int | None = None,
        estimator: BoundEstimator = "reparametrised",
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        **given: Any,
    ) -> Tensor:
        r"""The importance-weighted bound of log p(x), [N]:

        .. math:: L_K(x) = \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)} ,
                  \quad z_k \sim q(z \mid x)

        Its expectation grows with K towards log p(x); that of its exponential is p(x). By the
        parameters φ of q, the noise of the plain gradient falls with K more slowly than the
        gradient itself. The doubly reparametrised one has the same expectation and less noise:

        .. math:: \sum_k \tilde w_k^2 \, \frac{\partial \log w_k}{\partial z_k}
                  \frac{\partial z_k}{\partial \phi} , \qquad
                  \tilde w_k = \frac{w_k}{\sum_j w_j}

        The value, and the gradient by p, are the same. With K = 1 it is the ``path`` of `elbo`.

        Args:
            x: data [N, ...].
            num_samples: K.
            chunk_size: how many latents of a data point are in memory at once; all if None. The
                value is the same to rounding. Where a gradient is needed the chunks are computed
                once more on the way back, so that its memory is that of a chunk too. The encoder of
                a :class:`VAE` is called once for all chunks.
            estimator: of the gradient by q, "reparametrised" or "doubly_reparametrised".
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            given: as for `elbo`.

        Source:
            Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016, (8).
            Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better", 2018. Tucker,
            Lawson, Gu and Maddison, "Doubly Reparameterized Gradient Estimators for Monte Carlo
            Objectives", 2019.
        """
        owner = f"{type(self).__name__}.log_prob_bound"
        check_count(owner, "num_samples", num_samples, least=1)
        chunk_size = num_samples if chunk_size is None else chunk_size
        check_count(owner, "chunk_size", chunk_size, least=1)
        check_choice(owner, "estimator", estimator, get_args(BoundEstimator))
        if key is None:
            key = random_key(generator, device=x.device)
        if chunk_size < num_samples:
            given = self._once(x, given)

        def log_weights(start: int) -> Tensor:
            num = min(chunk_size, num_samples - start)
            options = {"key": key, "first": first, "first_sample": start, **given}
            if estimator == "reparametrised":
                return self.log_weights(x, num, **options)
            drawn = self.weigh(x, num, estimator="path", **options)
            if drawn.z.requires_grad:
                fixed = drawn.log_weights.detach()
                # The gradient of the bound has one factor of a latent's share; z has a second one.
                drawn.z.register_hook(lambda gradient: gradient * shares(fixed).unsqueeze(2))
            return drawn.log_weights

        def shares(log_weights: Tensor) -> Tensor:
            return torch.exp(log_weights - fixed_total.unsqueeze(1))

        def log_sum(start: int) -> Tensor:
            return log_weights(start).logsumexp(1)

        total = None
        for start in range(0, num_samples, chunk_size):
            if torch.is_grad_enabled() and chunk_size < num_samples:
                part = checkpoint(log_sum, start, use_reentrant=False)
            else:
                part = log_sum(start)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        fixed_total = total.detach()  # without its graph, which has the hooks
        return total - math.log(num_samples)
