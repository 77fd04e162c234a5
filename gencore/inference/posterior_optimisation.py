"""The best diagonal Gaussian posterior of each data point, without an encoder."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gencore.inference.gaussian_posterior import NormalParameters, bound_log_std
from gencore.inference.latent_adam import LatentAdam
from gencore.inference.latent_optimisation import optimise_latents
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import index

__all__ = ["optimise_posterior", "posterior_of_rows", "rows_of_posterior"]


def optimise_posterior(
    bound: Callable[[NormalParameters, Tensor], Tensor],
    start: NormalParameters,
    *,
    num_steps: int,
    optimizer: LatentAdam | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> NormalParameters:
    r"""The optimisation trick: maximise a bound in the parameters of q(z | x) of each data point.

    .. math:: (\hat\mu, \hat\Sigma) = \arg\max_{q = N(\mu, \Sigma)} E_q[\log p(x \mid z)] -
              KL(q \,\|\, p(z)) \qquad (2.5)

    All data points are optimised at once, by Adam on their means and the logarithms of their
    standard deviations.

    Args:
        bound: maps a posterior of N rows, and a key for the draws of this step, to estimates [N] of
            the bound: ``lambda q, key: vae.elbo(x, posterior=q, key=key)``.
        start: where to begin: what an encoder gives, or zeros, the prior.
        num_steps: of Adam.
        optimizer: ``LatentAdam()``, of learning rate 0.1, if None.
        generator: draws the key where none is given.
        key: int64 [seed, offset].

    Returns:
        The posterior, without a graph.

    Raises:
        TypeError, ValueError: as :func:`optimise_latents`.

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (2.5).

    Example:
        >>> import torch
        >>> from gencore.inference import NormalParameters, optimise_posterior
        >>> from gencore.models import VAE
        >>> from gencore.nn import MLP
        >>> vae, x = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2), torch.randn(5, 3)
        >>> start = NormalParameters(torch.zeros(5, 2), torch.zeros(5, 2))
        >>> q = optimise_posterior(
        ...     lambda q, key: vae.elbo(x, posterior=q, key=key), start, num_steps=10
        ... )
        >>> vae.elbo(x, posterior=q).shape
        torch.Size([5])
    """
    num_steps = index("optimise_posterior", "num_steps", num_steps)
    if key is None:
        key = random_key(generator, device=start.mean.device)
    keys = iter(split_key(key, num_steps))
    rows, _ = optimise_latents(
        lambda rows: -bound(posterior_of_rows(rows), next(keys)), rows_of_posterior(start),
        num_steps=num_steps, optimizer=optimizer,
    )  # fmt: skip
    return posterior_of_rows(rows)


def posterior_of_rows(rows: Tensor) -> NormalParameters:
    """The Gaussians of rows [N, 2L], means before logarithms of standard deviations."""
    mean, log_std = rows.chunk(2, 1)
    return NormalParameters(mean, bound_log_std(log_std))


def rows_of_posterior(posterior: NormalParameters) -> Tensor:
    """The rows [N, 2L] of Gaussians.

    Raises:
        ValueError: the two parameters have not one shape [N, L].
    """
    mean, log_std = posterior
    if mean.dim() != 2 or mean.shape != log_std.shape:
        raise ValueError(
            f"NormalParameters: mean and log_std have shapes {list(mean.shape)} and "
            f"{list(log_std.shape)}; expected [N, L] twice"
        )
    return torch.cat(posterior, 1)
