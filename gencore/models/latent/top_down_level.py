"""The levels of a hierarchy of latents: what is drawn, given what was drawn above."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from gencore.inference.gaussian_posterior import NormalParameters, bound_log_std
from gencore.nn.networks.conv_blocks import ResamplingBlock
from gencore.sizes import check_positive

__all__ = ["ConvLevel", "TopDownLevel", "VectorLevel"]


class TopDownLevel(nn.Module, ABC):
    """One level: Gaussians of its latents z given a state s, which knows all levels above, and the
    state of the level below.

    Attributes:
        latent_size: L, the numbers of z.
    """

    latent_size: int

    @abstractmethod
    def prior(self, state: Tensor) -> NormalParameters:
        """p(z | s) of states [N, ...]: means and logarithms of standard deviations, [N, L]."""

    @abstractmethod
    def posterior(self, state: Tensor, features: Tensor) -> NormalParameters:
        """q(z | s, h) of states and the encoder's features for this level, [N, ...]."""

    @abstractmethod
    def next_state(self, state: Tensor, z: Tensor) -> Tensor:
        """The state of the level below, of a state and latents [N, L]."""


class VectorLevel(TopDownLevel):
    """A level of vectors, whose state is all latents above, z_{<i}.

    Args:
        latent_size: L.
        posterior: (z_{<i}, h) as one vector → means and logarithms of standard deviations, [N, 2L].
        prior: z_{<i} → the same; without it p(z) is N(0, I), as at the top.

    Raises:
        ValueError: on a call if a network gives another shape.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP
        >>> level = VectorLevel(2, MLP(3 + 5, (8,), 4), MLP(3, (8,), 4))
        >>> level.next_state(torch.zeros(1, 3), torch.ones(1, 2))
        tensor([[0., 0., 0., 1., 1.]])
    """

    def __init__(
        self, latent_size: int, posterior: nn.Module, prior: nn.Module | None = None
    ) -> None:
        super().__init__()
        check_positive("VectorLevel", latent_size=latent_size)
        self.latent_size = latent_size
        self.posterior_network, self.prior_network = posterior, prior

    def prior(self, state: Tensor) -> NormalParameters:
        if self.prior_network is None:
            zeros = state.new_zeros(len(state), self.latent_size)
            return NormalParameters(zeros, zeros)
        return self._gaussian("prior", self.prior_network(state))

    def posterior(self, state: Tensor, features: Tensor) -> NormalParameters:
        parameters: Tensor = self.posterior_network(torch.cat([state, features], 1))
        return self._gaussian("posterior", parameters)

    def next_state(self, state: Tensor, z: Tensor) -> Tensor:
        return torch.cat([state, z], 1)

    def _gaussian(self, what: str, parameters: Tensor) -> NormalParameters:
        if parameters.shape[1:] != (2 * self.latent_size,):
            raise ValueError(
                f"VectorLevel: the {what} gives {list(parameters.shape)}; expected "
                f"[N, {2 * self.latent_size}], means and logarithms of standard deviations"
            )
        mean, log_std = parameters.chunk(2, 1)
        return NormalParameters(mean, bound_log_std(log_std))


class ConvLevel(TopDownLevel):
    """A level of maps: the state s is features [N, C, H, W], and z is K maps of their sides.

    The prior is a convolution of s, the posterior one of s beside the encoder's features h
    [N, F, H, W], both zero at first; the state below is a residual block of s plus a convolution of
    z, at twice the sides if asked for.

    Args:
        shape: C, H and W of the state.
        latent_channels: K.
        feature_channels: F.
        up: whether the state below has twice the sides.

    Raises:
        ValueError: for sizes below 1.

    Example:
        >>> import torch
        >>> level = ConvLevel((16, 4, 4), 2, 8, up=True)
        >>> level.latent_size
        32
        >>> level.next_state(torch.zeros(1, 16, 4, 4), torch.ones(1, 32)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_channels: int,
        feature_channels: int,
        *,
        up: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        check_positive(
            "ConvLevel", channels=channels, height=height, width=width,
            latent_channels=latent_channels, feature_channels=feature_channels,
        )  # fmt: skip
        self._latent_shape = (latent_channels, height, width)
        self.latent_size = latent_channels * height * width
        self.prior_conv = nn.Conv2d(channels, 2 * latent_channels, 3, padding=1)
        self.posterior_conv = nn.Conv2d(
            channels + feature_channels, 2 * latent_channels, 3, padding=1
        )
        for conv in (self.prior_conv, self.posterior_conv):
            nn.init.zeros_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        self.merge = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.block = ResamplingBlock(channels, channels, "up" if up else "none", nn.ELU)

    def prior(self, state: Tensor) -> NormalParameters:
        return _of_maps(self.prior_conv(elu(state)))

    def posterior(self, state: Tensor, features: Tensor) -> NormalParameters:
        return _of_maps(self.posterior_conv(elu(torch.cat([state, features], 1))))

    def next_state(self, state: Tensor, z: Tensor) -> Tensor:
        below: Tensor = self.block(state + self.merge(z.unflatten(1, self._latent_shape)))
        return below


def _of_maps(parameters: Tensor) -> NormalParameters:
    mean, log_std = parameters.chunk(2, 1)
    return NormalParameters(mean.flatten(1), bound_log_std(log_std.flatten(1)))
