"""A normalizing flow as a density: an invertible transform with a base distribution."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Distribution, constraints

from gencore.choices import check_choice
from gencore.models.starts import normal_starts
from gencore.nn.context import (
    ContextSize,
    check_context,
    check_context_is_tensor,
    context_shape,
    weight_of,
)
from gencore.nn.transforms import Transform
from gencore.ops import gaussian_nll
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Base", "Flow", "FlowDistribution"]

Base = Literal["normal", "logistic"]


class Flow(nn.Module):
    r"""The density of data whose latents z = f(x) have a standard base distribution.

    .. math:: \log p(x \mid c) = \log p_0(f(x; c)) + \log\left\lvert\det
              \frac{\partial f}{\partial x}\right\rvert

    Called with a context, or without, it is a :class:`torch.distributions.Distribution`.

    Args:
        transform: f, which maps data to latents.
        event_shape: shape of one data point.
        latent_shape: shape of its latents, where it differs.
        base: p₀, independent "normal" N(0, 1) or "logistic" latents.
        context_size: C of the contexts [N, C] that f needs, or (C, H, W) of contexts [N, C, H, W],
            one a pixel; 0 for none.

    Raises:
        ValueError: for another base; on a call, for data of another shape, for a context that is
            missing, not needed or of another shape, and for a temperature that is not finite or
            below 0, or of 0 where a density is asked for.
        TypeError: on a call, for data or a context that are no tensors of floating point, or of
            another dtype than the weights; a context may be less precise.

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
    """

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
        check_choice(type(self).__name__, "base", base, get_args(Base))
        self.transform = transform
        self.event_shape = Size(event_shape)
        self.latent_shape = self.event_shape if latent_shape is None else Size(latent_shape)
        self.base = base
        self.context_size = context_size

    def forward(
        self, context: Tensor | None = None, *, temperature: float = 1.0
    ) -> "FlowDistribution":
        """The distribution p(x | context); its batch shape is that of the context's rows.

        Args:
            context: [*batch, C], or [*batch, C, H, W] of a context a pixel, or ``None``.
            temperature: factor of the latents' standard deviation.
        """
        return FlowDistribution(self, context, temperature)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """log p(x | context) of data [N, ...] and a context [N, C], [N].

        Args:
            x: data.
            context: what they are conditioned on.
            temperature: factor of the latents' standard deviation, positive.
        """
        name = type(self).__name__
        _check_temperature(name, temperature)
        if temperature == 0:
            raise ValueError(
                f"{name}: temperature is {temperature}; expected more than 0, to have a density"
            )
        self._check_data(x)
        check_context(name, context, x.shape[0], self.context_size, weight_of(self))
        z, log_det = self.transform(x, context)
        if temperature != 1:
            z = z / temperature
            log_det = log_det - self.latent_shape.numel() * math.log(temperature)
        return self._latents_log_prob(z, log_det)

    def _latents_log_prob(self, z: Tensor, log_det: Tensor) -> Tensor:
        """log p₀(z) + log_det, [N]."""
        if self.base == "normal":
            return -gaussian_nll(z, log_det)
        # log of the logistic density: -|z| - 2 log(1 + exp(-|z|)), which never overflows
        z = z.flatten(1).abs().to(log_det.dtype)
        return log_det - (z + 2 * torch.log1p(torch.exp(-z))).sum(1)

    def sample_and_log_prob(
        self,
        num: int,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Data [num, ...] and their log-densities [num], from one pass through the inverse:

            log q(g(z)) = log p₀(z) − log|det ∂g/∂z|,   z ~ p₀

        Both are differentiable in the weights, as a variational objective E_q[log q − log p] needs.
        Arguments are those of `sample`.
        """
        check_context(type(self).__name__, context, num, self.context_size, weight_of(self))
        z = self.sample_latents(num, generator=generator, key=key, first=first)
        x, log_det = self.transform.inverse(z, context)
        return x, self._latents_log_prob(z, -log_det)

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
            temperature: factor of the latents' standard deviation.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the latents.
            first: number of samples before these, of other processes.
        """
        name = type(self).__name__
        _check_temperature(name, temperature)
        check_context(name, context, num, self.context_size, weight_of(self))
        z = self.sample_latents(num, generator=generator, key=key, first=first)
        return self.transform.inverse(temperature * z, context)[0]

    def sample_latents(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Latents [num, ...] of the base distribution; arguments as for `sample`."""
        z = normal_starts(
            self, num, self.latent_shape, generator=generator, key=key, first=first,
            stream="latents",
        )  # fmt: skip
        if self.base == "normal":
            return z
        # logit Φ(z), which keeps the digits of both tails
        wide = z.to(accumulation_dtype(z))
        return (torch.special.log_ndtr(wide) - torch.special.log_ndtr(-wide)).to(z.dtype)

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


def _check_temperature(owner: str, temperature: float) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"{owner}: temperature is {temperature}; expected a finite number, 0 or more"
        )


class FlowDistribution(Distribution):
    """p(x | context) of a :class:`Flow`, as a distribution of torch.

    Nothing is computed before it is asked for. A context of shape [*batch, C], or [*batch, C, H, W]
    of a context a pixel, gives a batch of distributions.

    Args:
        flow: the flow.
        context: [*batch, C], or ``None``.
        temperature: factor of the latents' standard deviation, in samples and in the density.
        batch_shape: of the distributions, to which the context is expanded; without it that of the
            context.
        validate_args: whether NaN values are refused; ``None`` for torch's default.

    Raises:
        ValueError: for a context of another shape than the flow's, or one that does not expand to
            the batch.

    Example:
        >>> import torch
        >>> from gencore.models import CouplingFlow
        >>> several = CouplingFlow(2, hidden_widths=(8,))().expand([3])
        >>> several.sample().shape, several.log_prob(torch.zeros(5, 1, 2)).shape
        (torch.Size([3, 2]), torch.Size([5, 3]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        flow: Flow,
        context: Tensor | None,
        temperature: float = 1.0,
        *,
        batch_shape: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_temperature("FlowDistribution", temperature)
        check_context_is_tensor("FlowDistribution", context)
        if context is not None and context.dim() < 1:
            raise ValueError("FlowDistribution: the context has no dimension; expected [*batch, C]")
        # The batch is what the shape of one context leaves; any other shape is refused below.
        rank = max(len(context_shape(flow.context_size)), 1)
        given = Size() if context is None else context.shape[:-rank]
        check_context(
            "FlowDistribution",
            None if context is None else context.reshape(given.numel(), *context.shape[-rank:]),
            given.numel(),
            flow.context_size,
            weight_of(flow),
        )
        batch_shape = given if batch_shape is None else Size(batch_shape)
        _check_expands(given, batch_shape)
        self.flow, self.context, self.temperature = flow, context, temperature
        super().__init__(batch_shape, flow.event_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return (
            f"FlowDistribution({type(self.flow).__name__}, batch_shape={list(self.batch_shape)}, "
            f"event_shape={list(self.event_shape)}, temperature={self.temperature})"
        )

    @property
    def support(self) -> constraints.Constraint:
        """All points of the event's shape."""
        real: constraints.Constraint = constraints.independent(
            constraints.real, len(self.event_shape)
        )
        return real

    def log_prob(self, value: Tensor) -> Tensor:
        """log p of values [..., *event_shape], broadcast with the batch."""
        dims = len(self.event_shape)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"FlowDistribution: the value is a {type(value).__name__}; expected a tensor"
            )
        if value.dim() < dims or value.shape[value.dim() - dims :] != self.event_shape:
            raise ValueError(
                f"FlowDistribution: values have shape {list(value.shape)}; expected [..., "
                f"{', '.join(map(str, self.event_shape))}]"
            )
        shape = _broadcast(value.shape[: value.dim() - dims], self.batch_shape)
        if shape is None:
            raise ValueError(
                f"FlowDistribution: values have shape {list(value.shape)}, which does not "
                f"broadcast with the batch {list(self.batch_shape)} of {list(self.event_shape)}"
            )
        if self._validate_args and value.numel():  # torch's check fails on no values
            self._validate_sample(value)
        x = value.expand(*shape, *self.event_shape).reshape(shape.numel(), *self.event_shape)
        rows = self._rows(shape)
        return self.flow.log_prob(x, rows, temperature=self.temperature).reshape(shape)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Samples [*sample_shape, *batch_shape, *event_shape], differentiable in the weights."""
        shape = Size(sample_shape) + self.batch_shape
        x = self.flow.sample(shape.numel(), self._rows(shape), temperature=self.temperature)
        return x.reshape(*shape, *self.event_shape)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Samples [*sample_shape, *batch_shape, *event_shape], without a graph."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "FlowDistribution":
        """The same distribution for a batch of that shape."""
        _check_expands(self.batch_shape, Size(batch_shape))
        return FlowDistribution(
            self.flow,
            self.context,
            self.temperature,
            batch_shape=batch_shape,
            validate_args=self._validate_args,
        )

    @property
    def mean(self) -> Tensor:
        """Has no closed form."""
        raise _no_closed_form("mean", "sample((num,)).mean(0)")

    @property
    def variance(self) -> Tensor:
        """Has no closed form."""
        raise _no_closed_form("variance", "sample((num,)).var(0)")

    @property
    def mode(self) -> Tensor:
        """Has no closed form."""
        raise _no_closed_form("mode", "the most likely of samples, by log_prob")

    def entropy(self) -> Tensor:
        """Has no closed form."""
        raise _no_closed_form("entropy", "-log_prob(rsample((num,))).mean(0)")

    def _rows(self, shape: Size) -> Tensor | None:
        if self.context is None:
            return None
        one = context_shape(self.flow.context_size)
        return self.context.expand(*shape, *one).reshape(shape.numel(), *one)


def _broadcast(a: Size, b: Size) -> Size | None:
    """The shape of both, if there is one."""
    try:
        return torch.broadcast_shapes(a, b)
    except (RuntimeError, ValueError):  # the latter for a negative length
        return None


def _check_expands(given: Size, batch_shape: Size) -> None:
    if _broadcast(given, batch_shape) != batch_shape:
        raise ValueError(
            f"FlowDistribution: a batch of shape {list(given)} does not expand to "
            f"{list(batch_shape)}"
        )


def _no_closed_form(name: str, estimate: str) -> NotImplementedError:
    return NotImplementedError(
        f"FlowDistribution: the {name} of a flow has no closed form; estimate it: {estimate}"
    )
