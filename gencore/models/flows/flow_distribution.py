"""A flow, called with its context, as a distribution of torch."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Distribution,
    Transform,
    constraints,
    register_kl,
)

from gencore.nn.context import (
    broadcast_shape,
    check_context,
    check_context_is_tensor,
    context_rows,
    context_shape,
    weight_of,
)
from gencore.nn.transforms import TorchTransform

if TYPE_CHECKING:
    from gencore.models.flows.flow import Flow

__all__ = ["FlowDistribution", "check_density_temperature", "check_temperature"]


class FlowDistribution(Distribution):
    """p(x | context) of a :class:`Flow`, as a distribution of torch.

    Nothing is computed before it is asked for. A context of shape [*batch, C], or [*batch, C, H, W]
    of a context a pixel, gives a batch of distributions.

    Args:
        flow: the flow.
        context: [*batch, C], or ``None``.
        temperature: factor of the latents, in samples and in the density.
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

    def __init__(
        self,
        flow: "Flow",
        context: Tensor | None,
        temperature: float = 1.0,
        *,
        batch_shape: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        check_temperature("FlowDistribution", temperature)
        check_context_is_tensor("FlowDistribution", context)
        if context is not None and context.dim() < 1:
            raise ValueError("FlowDistribution: the context has no dimension; expected [*batch, C]")
        # The batch is what the shape of one context leaves; any other shape is refused below.
        self._context_dims = rank = max(len(context_shape(flow.context_size)), 1)
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
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether `rsample` has the gradients by all parameters: not by those of a base that torch
        cannot reparametrise, such as a mixture that is learned."""
        return self.flow.is_reparametrised(self._rows(self.batch_shape))

    @property
    def transform(self) -> Transform:
        """The map from data to latents of this context and temperature, as one of torch's.

        ``TransformedDistribution(p.base, [p.transform.inv])`` is the same distribution.
        """
        to_latents = TorchTransform(
            self.flow.transform, self.event_shape, self.context,
            output_shape=self.flow.latent_shape, context_dims=self._context_dims,
        )  # fmt: skip
        if self.temperature == 1:
            return to_latents
        check_density_temperature("FlowDistribution", self.temperature)
        scale = AffineTransform(0.0, 1 / self.temperature, event_dim=len(self.flow.latent_shape))
        return ComposeTransform([to_latents, scale])

    @property
    def base(self) -> Distribution:
        """The latents' distribution, with this batch shape.

        Raises:
            NotImplementedError: it is one of the context, and the batch shape is not [N].
        """
        base = self.flow.base_distribution(self._rows(self.batch_shape))
        if not base.batch_shape:
            return base.expand(self.batch_shape)
        if base.batch_shape != self.batch_shape:
            raise NotImplementedError(
                "FlowDistribution.base: the flow's base depends on the context, and the batch "
                f"shape is {list(self.batch_shape)}; expected one dimension, of a context [N, C]"
            )
        return base

    @property
    def support(self) -> constraints.Constraint:
        """All points of the event's shape, with the density 0 where a base of bounded support has
        none."""
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
        shape = broadcast_shape(value.shape[: value.dim() - dims], self.batch_shape)
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

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """`rsample` and `log_prob` of what it gives, [*sample_shape, *batch_shape], from one pass
        through the inverse, where the two take one through the inverse and one through the flow."""
        shape = Size(sample_shape) + self.batch_shape
        x, log_prob = self.flow.sample_and_log_prob(
            shape.numel(), self._rows(shape), temperature=self.temperature
        )
        return x.reshape(*shape, *self.event_shape), log_prob.reshape(shape)

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
        raise _no_closed_form("entropy", "-rsample_and_log_prob((num,))[1].mean(0)")

    def _rows(self, shape: Size) -> Tensor | None:
        return context_rows(self.context, shape, self._context_dims)


@register_kl(FlowDistribution, Distribution)
@register_kl(FlowDistribution, FlowDistribution)
def _kl_from_a_flow(p: FlowDistribution, q: Distribution) -> Tensor:
    raise _no_closed_form(
        "Kullback-Leibler divergence",
        "x, log_p = p.rsample_and_log_prob((num,)); (log_p - q.log_prob(x)).mean(0)",
    )


@register_kl(Distribution, FlowDistribution)
def _kl_to_a_flow(p: Distribution, q: FlowDistribution) -> Tensor:
    raise _no_closed_form(
        "Kullback-Leibler divergence",
        "x = p.sample((num,)); (p.log_prob(x) - q.log_prob(x)).mean(0)",
    )


def _check_expands(given: Size, batch_shape: Size) -> None:
    if broadcast_shape(given, batch_shape) != batch_shape:
        raise ValueError(
            f"FlowDistribution: a batch of shape {list(given)} does not expand to "
            f"{list(batch_shape)}"
        )


def _no_closed_form(name: str, estimate: str) -> NotImplementedError:
    return NotImplementedError(
        f"FlowDistribution: the {name} of a flow has no closed form; estimate it: {estimate}"
    )


def check_temperature(owner: str, temperature: float) -> None:
    """Raise a ValueError unless samples have such a temperature."""
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"{owner}: temperature is {temperature}; expected a finite number, 0 or more"
        )


def check_density_temperature(owner: str, temperature: float) -> None:
    """Raise a ValueError unless there is a density of that temperature."""
    check_temperature(owner, temperature)
    if temperature == 0:
        raise ValueError(
            f"{owner}: temperature is {temperature}; expected more than 0, to have a density"
        )
