"""An encoder's Gaussian made flexible by a flow."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.inference.gaussian_posterior import NormalParameters, latent_noise, log_normal
from gencore.models.flows.autoregressive_stack import autoregressive_layers
from gencore.nn.context import check_context, weight_of
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import Compose, InverseAutoregressive, Transform
from gencore.ops import random_key
from gencore.sizes import check_positive

__all__ = ["FlowPosterior", "PosteriorSample"]


class PosteriorSample(NamedTuple):
    """What :class:`FlowPosterior` returns."""

    z: Tensor
    """[N, D]: a sample a data point, or [N, K, D]: K of them; differentiable in everything that q
    depends on."""
    log_q: Tensor
    """log q(z | x), [N] or [N, K]."""


class FlowPosterior(nn.Module):
    r"""The approximate posterior q(z | x) of a variational autoencoder, a Gaussian behind a flow.

    .. math:: z_0 = \mu + e^{\log\sigma} \odot \varepsilon, \quad \varepsilon \sim N(0, I), \qquad
              z = g(z_0; h)

    .. math:: \log q(z \mid x) = \log N(z_0; \mu, \sigma^2) -
              \log\left\lvert\det \frac{\partial g}{\partial z_0}\right\rvert

    μ, log σ and a context h are an encoder's outputs for x. g is the inverse of a transform, which
    a sample passes through: of any that is given, or of T steps of inverse autoregression,

    .. math:: z_t = \sigma_t \odot z_{t-1} + (1 - \sigma_t) \odot m_t, \quad t = 1, \dots, T, \qquad
              \log\left\lvert\det \frac{\partial g}{\partial z_0}\right\rvert =
              \sum_t \sum_i \log \sigma_{t,i}

    m_t and σ_t depend on h and on the coordinates before them, whose order is reversed from step to
    step. With no steps it is the diagonal Gaussian. A flow prior p(z) is any
    :class:`gencore.models.Flow` over [D], such as :class:`gencore.models.MAF`: the ELBO is then
    ``log p(x | z) + prior.log_prob(z) - log_q``.

    Args:
        latent_size: D.
        context_size: C of h, [N, C]; 0 for none.
        transform: g⁻¹, from z to z₀, for instance that of a :class:`SplineFlow` with contexts;
            the steps above if ``None``, which alone take the options that follow.
        num_steps: T.
        hidden_widths: of each step's network.
        activation: of the networks.
        gate_bias: s at the start, σ_t = sigmoid(s).

    Raises:
        ValueError: for sizes that do not fit, or options of the steps beside a transform.
        TypeError: for a transform that is none.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference
        with Inverse Autoregressive Flow", 2016, Algorithm 1. Rezende and Mohamed, "Variational
        inference with normalizing flows", 2015, for other transforms. Lucas, "Deep generative
        models: over-generalisation and mode-dropping", 2020, (2.58)-(2.60).

    Example:
        >>> import torch
        >>> from gencore.models import FlowPosterior
        >>> posterior = FlowPosterior(4, context_size=8, hidden_widths=(32,))
        >>> mean, log_std, context = torch.zeros(5, 4), torch.zeros(5, 4), torch.zeros(5, 8)
        >>> z, log_q = posterior(mean, log_std, context)
        >>> z.shape, log_q.shape
        (torch.Size([5, 4]), torch.Size([5]))
        >>> posterior(mean, log_std, context, num_samples=7).z.shape
        torch.Size([5, 7, 4])
    """

    def __init__(
        self,
        latent_size: int,
        context_size: int = 0,
        *,
        transform: Transform | None = None,
        num_steps: int = 2,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "relu",
        gate_bias: float = 2.0,
    ) -> None:
        super().__init__()
        if num_steps < 0:
            raise ValueError(f"FlowPosterior: num_steps is {num_steps}; expected 0 or more")
        self.latent_size, self.context_size = latent_size, context_size
        if transform is None:
            steps = autoregressive_layers(
                "FlowPosterior", latent_size, num_steps,
                partial(InverseAutoregressive, latent_size, hidden_widths), mixing="reverse",
                activation=activation, context_size=context_size, gate_bias=gate_bias,
            )  # fmt: skip
            transform = Compose(*steps)
        elif not isinstance(transform, Transform):
            raise TypeError(
                f"FlowPosterior: transform is a {type(transform).__name__}; expected a Transform"
            )
        elif (num_steps, tuple(hidden_widths), activation, gate_bias) != (2, (64, 64), "relu", 2.0):
            raise ValueError(
                "FlowPosterior: num_steps, hidden_widths, activation and gate_bias are of the "
                "steps in the place of a transform; expected none of them beside transform"
            )
        self.transform = transform

    @property
    def is_gaussian(self) -> bool:
        """Whether it is the diagonal Gaussian itself, without a flow."""
        return isinstance(self.transform, Compose) and not len(self.transform)

    def forward(
        self,
        mean: Tensor,
        log_std: Tensor,
        context: Tensor | None = None,
        *,
        num_samples: int | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_sample: int = 0,
        epsilon: Tensor | None = None,
    ) -> PosteriorSample:
        """A sample z ~ q(z | x) of each of the N data points, or K of each, and their log-density.

        Args:
            mean: μ, [N, D].
            log_std: log σ, [N, D].
            context: h, [N, C].
            num_samples: K, for z [N, K, D] and log q [N, K], as importance weights need them;
                ``None`` for one, z [N, D] and log q [N].
            generator: draws the key where none is given.
            key: int64 [seed, offset] of ε.
            first: number of data points of the processes before this one.
            first_sample: number of samples of each data point before these.
            epsilon: ε, of the shape of z, in the place of one that is drawn.
        """
        self._check(mean, log_std, context)
        if num_samples is not None:
            check_positive("FlowPosterior", num_samples=num_samples)
        several = 1 if num_samples is None else num_samples
        if epsilon is None:
            key = random_key(generator, device=mean.device) if key is None else key
            epsilon = latent_noise(mean, several, key, first, first_sample)
        else:
            shape = mean.shape if num_samples is None else (len(mean), several, self.latent_size)
            if epsilon.shape != shape:
                raise ValueError(
                    f"FlowPosterior: epsilon has shape {list(epsilon.shape)}; expected "
                    f"{list(shape)}"
                )
            epsilon = epsilon.reshape(len(mean), several, self.latent_size)
        start = mean.unsqueeze(1) + torch.exp(log_std).unsqueeze(1) * epsilon
        log_start = log_normal(epsilon) - log_std.sum(1, keepdim=True)
        rows = _repeated(context, several)
        z, log_det = self.transform.inverse(start.flatten(0, 1), rows)
        z, log_q = z.view_as(start), log_start - log_det.view(log_start.shape)
        if num_samples is None:
            return PosteriorSample(z.squeeze(1), log_q.squeeze(1))
        return PosteriorSample(z, log_q)

    def log_prob(
        self,
        z: Tensor,
        mean: Tensor,
        log_std: Tensor,
        context: Tensor | None = None,
        *,
        path: bool = False,
    ) -> Tensor:
        """log q(z | x) of given latents [N, D], [N], or of K of each data point [N, K, D], [N, K].

        Of the inverse autoregressive steps it takes D short steps where a sample takes one.

        Args:
            z: latents.
            mean: as for `forward`, like `log_std` and `context`.
            path: whether gradients pass by z alone, with all that q depends on held fixed.
        """
        self._check(mean, log_std, context)
        shape = mean.shape
        if z.shape != shape and (z.dim() != 3 or (len(z), z.shape[2]) != shape):
            raise ValueError(
                f"FlowPosterior: latents have shape {list(z.shape)}; expected {list(shape)} or "
                f"[{shape[0]}, K, {shape[1]}]"
            )
        given = NormalParameters(mean, log_std)
        if path:
            given = given.detach()
            context = None if context is None else context.detach()
        rows = _repeated(context, z.shape[1] if z.dim() == 3 else 1)
        to_start = stop_gradient(self.transform) if path else self.transform
        start, log_det = to_start(z.flatten(0, -2), rows)
        return given.log_prob(start.view_as(z)) + log_det.view(z.shape[:-1])

    def _check(self, mean: Tensor, log_std: Tensor, context: Tensor | None) -> None:
        if mean.shape != log_std.shape or mean.shape[1:] != (self.latent_size,):
            raise ValueError(
                f"FlowPosterior: mean and log_std have shapes {list(mean.shape)} and "
                f"{list(log_std.shape)}; expected [N, {self.latent_size}]"
            )
        check_context("FlowPosterior", context, mean.shape[0], self.context_size, weight_of(self))


def _repeated(context: Tensor | None, several: int) -> Tensor | None:
    """A row for each of several samples of a data point."""
    return context if context is None else context.repeat_interleave(several, 0)
