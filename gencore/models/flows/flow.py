"""A normalizing flow as a density: an invertible transform with a base distribution."""

import inspect
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
)

from gencore.models.flows.flow_distribution import (
    FlowDistribution,
    check_density_temperature,
    check_temperature,
)
from gencore.models.flows.latent_distribution import FixedDistribution, LatentDistribution
from gencore.models.starts import like, normal_starts
from gencore.nn.context import ContextSize, check_context, weight_of
from gencore.nn.transforms import Transform
from gencore.ops import gaussian_nll, random_key
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.random import stream_key

__all__ = ["Base", "Flow"]

_Standard = Literal["normal", "logistic"]
Base = _Standard | Distribution | nn.Module
"""What a flow takes for the distribution of its latents: a name, a distribution, or a module which,
called with the context or without, returns one."""


class Flow(nn.Module):
    r"""The density of data whose latents z = f(x) have a base distribution p₀.

    .. math:: \log p(x \mid c) = \log p_0(f(x; c)) + \log\left\lvert\det
              \frac{\partial f}{\partial x}\right\rvert

    Called with a context, or without, it is a :class:`torch.distributions.Distribution`.

    Args:
        transform: f, which maps data to latents.
        event_shape: shape of one data point.
        latent_shape: shape of its latents, where it differs.
        base: p₀: independent "normal" N(0, 1) or "logistic" latents; a distribution of
            `torch.distributions` over the latents, which is fixed and goes to the devices and
            dtypes that the flow goes to; or a module that returns one, such as a
            :class:`DistributionModule`, which is learned, or a :class:`ConditionalNormal` of the
            context. Its batch shape may be a part of the latents' shape, or the whole, or start
            with the N rows of the context. Data whose latents are outside its support have the
            log-density −∞.
        context_size: C of the contexts [N, C] that f or p₀ needs, or (C, H, W) of contexts
            [N, C, H, W], one a pixel; 0 for none.

    Raises:
        ValueError: for another base, or one over another shape than the latents'; on a call, for
            data of another shape, for a context that is missing, not needed or of another shape,
            and for a temperature that is not finite or below 0, or of 0 where a density is asked
            for.
        TypeError: on a call, for data or a context that are no tensors of floating point, or of
            another dtype than the weights; a context may be less precise; for a base of another
            dtype than the latents.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015. Yan, "Deep
        Generative Models: Design, Improvements and Applications", 2022, (2.6).

    Example:
        >>> import torch
        >>> from gencore.models import Flow
        >>> from gencore.nn import Permutation
        >>> flow = Flow(Permutation.reverse(2), [2])
        >>> flow().log_prob(torch.zeros(2))
        tensor(-1.8379)
        >>> flow().sample((5,)).shape
        torch.Size([5, 2])
        >>> uniform = torch.distributions.Uniform(-torch.ones(2), torch.ones(2))
        >>> Flow(Permutation.reverse(2), [2], base=uniform).log_prob(torch.tensor([[0, 2.0]]))
        tensor([-inf])
    """

    base: _Standard | nn.Module

    def __init__(
        self,
        transform: Transform,
        event_shape: Sequence[int],
        *,
        latent_shape: Sequence[int] | None = None,
        base: Base = "normal",
        context_size: ContextSize = 0,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.event_shape = Size(event_shape)
        self.latent_shape = self.event_shape if latent_shape is None else Size(latent_shape)
        self.context_size = context_size
        self.base = self._made_base(base)
        self._base_takes_context = bool(context_size) and _takes(self.base, 1)

    def forward(
        self, context: Tensor | None = None, *, temperature: float = 1.0
    ) -> FlowDistribution:
        """The distribution p(x | context); its batch shape is that of the context's rows.

        Args:
            context: [*batch, C], or [*batch, C, H, W] of a context a pixel, or ``None``.
            temperature: factor of the latents.
        """
        return FlowDistribution(self, context, temperature)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """log p(x | context) of data [N, ...] and a context [N, C], [N].

        Args:
            x: data.
            context: what they are conditioned on.
            temperature: factor of the latents, positive: z has the density p₀(z / T) / Tᴰ.
        """
        self._check_temperature(temperature, has_density=True)
        self._check_data(x)
        check_context(type(self).__name__, context, x.shape[0], self.context_size, weight_of(self))
        z, log_det = self.transform(x, context)
        if temperature != 1:
            z = z / temperature
            log_det = log_det - self.latent_shape.numel() * math.log(temperature)
        return self._latents_log_prob(self._latents(context, z.shape[0]), z, log_det)

    def sample_and_log_prob(
        self,
        num: int,
        context: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Data [num, ...] and their log-densities [num], from one pass through the inverse:

            log q(g(Tz)) = log p₀(z) − D log T − log|det ∂g/∂(Tz)|,   z ~ p₀

        Both are differentiable in the weights, as a variational objective E_q[log q − log p] needs.
        Arguments are those of `sample`.
        """
        self._check_temperature(temperature, has_density=True)
        check_context(type(self).__name__, context, num, self.context_size, weight_of(self))
        latents = self._latents(context, num)
        key = random_key(generator, self._like(latents).device) if key is None else key
        z = self._draw(latents, num, generator, key, first)
        if temperature == 1:
            x, log_det = self._invert_with_log_det(z, context, key, first)
        else:
            x, log_det = self._invert_with_log_det(temperature * z, context, key, first)
            log_det = log_det + self.latent_shape.numel() * math.log(temperature)
        return x, self._latents_log_prob(latents, z, -log_det)

    def sample(
        self,
        num: int,
        context: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data [num, ...], a row of the context [num, C] for each; differentiable in weights.

        Args:
            num: number of samples.
            context: what they are conditioned on.
            temperature: factor of the latents.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the latents.
            first: number of samples before these, of other processes.
        """
        self._check_temperature(temperature)
        check_context(type(self).__name__, context, num, self.context_size, weight_of(self))
        z = self.sample_latents(num, context, generator=generator, key=key, first=first)
        return self._invert(temperature * z, context)

    def sample_latents(
        self,
        num: int,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Latents [num, ...] of the base distribution; arguments as for `sample`.

        With one key, ``num = a`` and ``num = b`` with ``first = a`` are the two parts of
        ``num = a + b``, whatever the base. One of the context whose latents have no inverse
        distribution function (`icdf`), such as a mixture, has no ``first``.
        """
        return self._draw(self._latents(context, num), num, generator, key, first)

    def base_distribution(self, context: Tensor | None = None) -> Distribution:
        """p₀ as one of torch, with the latents' shape as its event shape.

        Args:
            context: [N, C], for a base of the context, which then has the batch shape [N].
        """
        latents = self._latents(context, 0 if context is None else len(context))
        if latents is not None:
            return latents.distribution
        zeros = like(self).new_zeros(self.latent_shape)
        ones = torch.ones_like(zeros)
        if self.base == "normal":
            elements: Distribution = Normal(zeros, ones, validate_args=False)
        else:
            uniform = Uniform(zeros, ones, validate_args=False)
            elements = TransformedDistribution(uniform, [SigmoidTransform().inv])
        return Independent(elements, len(self.latent_shape), validate_args=False)

    def is_reparametrised(self, context: Tensor | None = None) -> bool:
        """Whether samples are differentiable in all parameters: not in those of a base of which
        torch has no such samples, for instance a mixture."""
        latents = self._latents(context, 0 if context is None else len(context))
        return latents is None or latents.is_reparametrised

    def _made_base(self, base: Base) -> _Standard | nn.Module:
        name = type(self).__name__
        if isinstance(base, Distribution):
            made = FixedDistribution(name, base)
            LatentDistribution(name, base, self.latent_shape)
            return made
        if isinstance(base, nn.Module):
            if not self.context_size and not _takes(base, 0):
                raise ValueError(
                    f"{name}: the base, a {type(base).__name__}, takes a context, but context_size "
                    "is 0"
                )
            return base
        if base not in get_args(_Standard):
            raise ValueError(
                f"{name}: base is {base!r}; expected normal, logistic, a distribution of "
                "torch.distributions, or a module that returns one"
            )
        return base

    def _latents(self, context: Tensor | None, num: int) -> LatentDistribution | None:
        """The distribution that the base module gives for contexts of `num` rows; ``None`` for
        standard latents, which have operators of their own."""
        name = type(self).__name__
        if not isinstance(self.base, nn.Module):
            return None
        if not self._base_takes_context:
            return LatentDistribution(name, self.base(), self.latent_shape)
        check_context(name, context, num, self.context_size, weight_of(self.base))
        return LatentDistribution(name, self.base(context), self.latent_shape, num)

    def _latents_log_prob(
        self, latents: LatentDistribution | None, z: Tensor, log_det: Tensor
    ) -> Tensor:
        """log p₀(z) + log_det, [N]."""
        if latents is not None:
            return log_det + latents.log_prob(z)
        if self.base == "normal":
            return -gaussian_nll(z, log_det)
        # log of the logistic density: -|z| - 2 log(1 + exp(-|z|)), which never overflows
        z = z.flatten(1).abs().to(log_det.dtype)
        return log_det - (z + 2 * torch.log1p(torch.exp(-z))).sum(1)

    def _draw(
        self,
        latents: LatentDistribution | None,
        num: int,
        generator: Generator | None,
        key: Tensor | None,
        first: int,
    ) -> Tensor:
        """Latents [num, ...]; arguments as for `sample`."""
        if latents is not None:
            of = self._like(latents)
            key = random_key(generator, of.device) if key is None else key
            return latents.sample(num, of, stream_key(key, "latents"), first)
        z = normal_starts(
            self, num, self.latent_shape, generator=generator, key=key, first=first,
            stream="latents",
        )  # fmt: skip
        if self.base == "normal":
            return z
        # logit Φ(z), which keeps the digits of both tails
        wide = z.to(accumulation_dtype(z))
        return (torch.special.log_ndtr(wide) - torch.special.log_ndtr(-wide)).to(z.dtype)

    def _like(self, latents: LatentDistribution | None) -> Tensor:
        """A tensor of the device and the dtype of latents."""
        if latents is not None and weight_of(self) is None and latents.tensors:
            return latents.tensors[0]
        return like(self)

    def _invert(self, z: Tensor, context: Tensor | None) -> Tensor:
        """The data of latents."""
        return self.transform.inverse(z, context)[0]

    def _invert_with_log_det(
        self, z: Tensor, context: Tensor | None, key: Tensor, first: int
    ) -> tuple[Tensor, Tensor]:
        """The data of latents and the log-determinant, which may need noise of the key."""
        return self.transform.inverse(z, context)

    def _check_temperature(self, temperature: float, *, has_density: bool = False) -> None:
        """Raise a ValueError for a temperature without samples, or without a density."""
        check = check_density_temperature if has_density else check_temperature
        check(type(self).__name__, temperature)

    def _check_data(self, x: Tensor) -> None:
        if x.shape[1:] != self.event_shape:
            raise ValueError(
                f"{type(self).__name__}: data have shape {list(x.shape)}; expected [N, "
                f"{', '.join(map(str, self.event_shape))}]"
            )
        if not x.is_floating_point():
            raise TypeError(f"{type(self).__name__}: data are {x.dtype}; expected floating point")
        weight = weight_of(self)
        if (
            weight is not None
            and x.dtype != weight.dtype
            and not torch.is_autocast_enabled(x.device.type)
        ):
            raise TypeError(
                f"{type(self).__name__}: data are {x.dtype} and the weights {weight.dtype}; "
                "convert one of the two"
            )


def _takes(base: _Standard | nn.Module, num_arguments: int) -> bool:
    """Whether a base can be called with so many arguments."""
    if not isinstance(base, nn.Module):
        return False
    if isinstance(base, Flow) and num_arguments and not base.context_size:
        return False
    try:
        inspect.signature(base.forward).bind(*range(num_arguments))
    except TypeError:
        return False
    return True
