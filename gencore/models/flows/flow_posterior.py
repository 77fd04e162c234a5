"""An encoder's Gaussian made flexible by an inverse autoregressive flow."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.flows.autoregressive_stack import autoregressive_layers
from gencore.nn.context import check_context, weight_of
from gencore.nn.transforms import Compose, InverseAutoregressive

__all__ = ["FlowPosterior", "PosteriorSample"]


class PosteriorSample(NamedTuple):
    """What :class:`FlowPosterior` returns."""

    z: Tensor
    """[N, D]: a sample a data point, differentiable in everything that q depends on."""
    log_q: Tensor
    """log q(z | x), [N]."""


class FlowPosterior(nn.Module):
    r"""The approximate posterior q(z | x) of a variational autoencoder, by inverse autoregression.

    .. math:: z_0 = \mu + e^{\log\sigma} \odot \varepsilon, \quad \varepsilon \sim N(0, I), \qquad
              z_t = \sigma_t \odot z_{t-1} + (1 - \sigma_t) \odot m_t, \quad t = 1, \dots, T

    .. math:: \log q(z_T \mid x) = -\sum_i \Big(\log\sigma_i + \tfrac12 \varepsilon_i^2 +
              \tfrac12 \log 2\pi + \sum_t \log \sigma_{t,i}\Big)

    μ, log σ and a context h are an encoder's outputs for x; m_t and σ_t depend on h and on the
    coordinates before them, whose order is reversed from step to step. With no steps it is the
    diagonal Gaussian. A flow prior p(z) is any :class:`gencore.models.Flow` over [D], such as
    :class:`gencore.models.MAF`: the ELBO is then ``log p(x | z) + prior.log_prob(z) - log_q``.

    Args:
        latent_size: D.
        context_size: C of h, [N, C]; 0 for none.
        num_steps: T.
        hidden_widths: of each step's network.
        activation: of the networks.
        gate_bias: s at the start, σ_t = sigmoid(s).

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference
        with Inverse Autoregressive Flow", 2016, Algorithm 1. Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, (2.58)-(2.60).

    Example:
        >>> import torch
        >>> from gencore.models import FlowPosterior
        >>> posterior = FlowPosterior(4, context_size=8, hidden_widths=(32,))
        >>> z, log_q = posterior(torch.zeros(5, 4), torch.zeros(5, 4), torch.zeros(5, 8))
        >>> z.shape, log_q.shape
        (torch.Size([5, 4]), torch.Size([5]))
    """

    def __init__(
        self,
        latent_size: int,
        context_size: int = 0,
        *,
        num_steps: int = 2,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "relu",
        gate_bias: float = 2.0,
    ) -> None:
        super().__init__()
        if num_steps < 0:
            raise ValueError(f"FlowPosterior: num_steps is {num_steps}; expected 0 or more")
        self.latent_size, self.context_size = latent_size, context_size
        steps = autoregressive_layers(
            "FlowPosterior", latent_size, num_steps,
            partial(InverseAutoregressive, latent_size, hidden_widths), activation=activation,
            context_size=context_size, gate_bias=gate_bias,
        )  # fmt: skip
        self.steps = Compose(*steps)

    def forward(
        self,
        mean: Tensor,
        log_std: Tensor,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        epsilon: Tensor | None = None,
    ) -> PosteriorSample:
        """A sample z ~ q(z | x) of each of the N data points, and its log-density.

        Args:
            mean: μ, [N, D].
            log_std: log σ, [N, D].
            context: h, [N, C].
            generator: of ε, where none is given.
            epsilon: ε, [N, D].
        """
        self._check(mean, log_std, context)
        if epsilon is None:
            epsilon = torch.empty_like(mean).normal_(generator=generator)
        elif epsilon.shape != mean.shape:
            raise ValueError(
                f"FlowPosterior: epsilon has shape {list(epsilon.shape)}; expected "
                f"{list(mean.shape)}"
            )
        z, log_det = self.steps.inverse(mean + torch.exp(log_std) * epsilon, context)
        return PosteriorSample(z, _gaussian(epsilon, log_std) - log_det)

    def log_prob(
        self, z: Tensor, mean: Tensor, log_std: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """log q(z | x) of given latents [N, D], [N]; D short steps where a sample takes one."""
        self._check(mean, log_std, context)
        if z.shape != mean.shape:
            raise ValueError(
                f"FlowPosterior: latents have shape {list(z.shape)}; expected {list(mean.shape)}"
            )
        start, log_det = self.steps(z, context)
        return _gaussian((start - mean) * torch.exp(-log_std), log_std) + log_det

    def _check(self, mean: Tensor, log_std: Tensor, context: Tensor | None) -> None:
        if mean.shape != log_std.shape or mean.shape[1:] != (self.latent_size,):
            raise ValueError(
                f"FlowPosterior: mean and log_std have shapes {list(mean.shape)} and "
                f"{list(log_std.shape)}; expected [N, {self.latent_size}]"
            )
        check_context("FlowPosterior", context, mean.shape[0], self.context_size, weight_of(self))


def _gaussian(epsilon: Tensor, log_std: Tensor) -> Tensor:
    """log N(μ + σε; μ, σ²), [N]."""
    return -(0.5 * epsilon.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(1)
