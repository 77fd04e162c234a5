"""Densities of latents that are a function of standard normal noise."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gencore.inference.gaussian_posterior import log_normal
from gencore.models.flows.flow import Flow
from gencore.models.flows.latent_distribution import quantiles
from gencore.models.latent.gaussian_mixture import GaussianMixture

if TYPE_CHECKING:
    from gencore.models.flows.flow_distribution import FlowDistribution

__all__ = [
    "DistributionPrior", "FlowPrior", "LatentPrior", "MixturePrior", "Prior", "StandardNormalPrior",
    "check_prior", "make_prior",
]  # fmt: skip

Prior = Flow | GaussianMixture | Distribution
"""What can stand for the prior of latents, beside N(0, I)."""


class LatentPrior(nn.Module, ABC):
    """p(z) of latents [N, L], as a function of noise u ~ N(0, I) of `noise_size` numbers."""

    noise_size: int

    @abstractmethod
    def from_noise(self, noise: Tensor) -> Tensor:
        """The latents [N, L] of noise [N, U]."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of latents [..., L], [...]."""

    @abstractmethod
    def distribution(self) -> "Distribution | FlowDistribution":
        """The same as a :class:`torch.distributions.Distribution` over [L]."""


class StandardNormalPrior(LatentPrior):
    """N(0, I), whose latents are the noise."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.noise_size = latent_size
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(latent_size), persistent=False)

    def from_noise(self, noise: Tensor) -> Tensor:
        return noise

    def log_prob(self, z: Tensor) -> Tensor:
        return log_normal(z)

    def distribution(self) -> Distribution:
        return Independent(Normal(self.mean, torch.ones_like(self.mean)), 1)


class FlowPrior(LatentPrior):
    """The density of a flow over [L] with normal latents."""

    def __init__(self, owner: str, flow: Flow, latent_size: int) -> None:
        super().__init__()
        check_prior(owner, flow, latent_size)
        self.flow, self.noise_size = flow, latent_size

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.flow.transform.inverse(noise)[0]

    def log_prob(self, z: Tensor) -> Tensor:
        return self.flow.log_prob(z.flatten(0, -2)).view(z.shape[:-1])

    def distribution(self) -> "FlowDistribution":
        return self.flow()


class MixturePrior(LatentPrior):
    """A mixture of Gaussians over [L]."""

    def __init__(self, owner: str, mixture: GaussianMixture, latent_size: int) -> None:
        super().__init__()
        features = mixture.means.shape[1]
        if features != latent_size:
            raise ValueError(
                f"{owner}: the prior is a mixture over [{features}]; expected [{latent_size}]"
            )
        self.mixture, self.noise_size = mixture, 1 + latent_size

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.mixture.from_noise(noise)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.mixture.log_prob(z.flatten(0, -2)).view(z.shape[:-1])

    def distribution(self) -> Distribution:
        return self.mixture.distribution()


class DistributionPrior(LatentPrior):
    """A distribution over [L] of independent elements, whose latents are F⁻¹(Φ(u)).

    Its tensors stay on the device and in the dtype that they have.
    """

    def __init__(self, owner: str, given: Distribution, latent_size: int) -> None:
        super().__init__()
        name = type(given).__name__
        if given.batch_shape or given.event_shape != (latent_size,):
            raise ValueError(
                f"{owner}: the prior is a {name} with batch shape {list(given.batch_shape)} and "
                f"event shape {list(given.event_shape)}; expected [] and [{latent_size}]"
            )
        self._elements = given
        while isinstance(self._elements, Independent):
            self._elements = self._elements.base_dist
        # A number goes with tensors of any device.
        if quantiles(self._elements, torch.zeros(())) is None:
            raise ValueError(
                f"{owner}: the prior is a {name} without an inverse distribution function, so that "
                "it cannot be drawn from noise; expected independent elements with `icdf`, or a "
                "flow or a mixture"
            )
        self._given, self.noise_size = given, latent_size

    def from_noise(self, noise: Tensor) -> Tensor:
        z = quantiles(self._elements, noise)
        assert z is not None
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        return self._given.log_prob(z)

    def distribution(self) -> Distribution:
        return self._given


def make_prior(owner: str, prior: Prior | None, latent_size: int) -> LatentPrior:
    """The prior of what was given, or N(0, I), or an error of `owner` that says what is wrong."""
    if prior is None:
        return StandardNormalPrior(latent_size)
    if isinstance(prior, Flow):
        return FlowPrior(owner, prior, latent_size)
    if isinstance(prior, GaussianMixture):
        return MixturePrior(owner, prior, latent_size)
    if isinstance(prior, Distribution):
        return DistributionPrior(owner, prior, latent_size)
    raise TypeError(
        f"{owner}: the prior is a {type(prior).__name__}; expected a Flow, a GaussianMixture, a "
        "torch.distributions.Distribution or None"
    )


def check_prior(owner: str, flow: Flow, latent_size: int) -> None:
    """Raise a ValueError unless a flow is over [L], of normal latents, and without a context."""
    found = (flow.event_shape, flow.latent_shape, flow.base, flow.context_size)
    if found != ((latent_size,), (latent_size,), "normal", 0):
        raise ValueError(
            f"{owner}: the flow is over {list(flow.event_shape)} with {flow.base} latents "
            f"{list(flow.latent_shape)} and a context of {flow.context_size}; expected one over "
            f"[{latent_size}] with normal latents and without a context"
        )
