"""The discretised logistic in torch: the probability of a bin, reference, derivatives, shapes.

All is counted in levels: a raw mean r stands for μ = (r + 1)(L − 1)/2 and a raw log-scale ρ for
s = e^ρ (L − 1)/2, so that the edges of the bins are exact whatever the scale, and neighbouring bins
share theirs bit for bit.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.checks import accumulation_dtype

__all__ = [
    "LARGEST_LOG_SCALE",
    "LogisticParts",
    "LogisticSettings",
    "bin_log_prob",
    "component_log_prob",
    "in_levels",
    "native_log_prob",
    "parts_of",
    "reference_log_prob",
    "scaled",
]

_ops = torch.ops.gencore

LARGEST_LOG_SCALE = 30.0
"""Where a float still divides a bin by the scale; all that is not an edge bin has e⁻³⁰ by then."""


class LogisticSettings(NamedTuple):
    """The numbers of the family's schemas, in their order there."""

    levels: int
    """L: pixels are from 0 up, below L."""
    components: int
    """M."""
    weighted: bool
    """Whether the parameters have the components' logits; else there is one component."""
    coupled: bool
    """Whether the means depend on the earlier channels of the pixel."""
    bin_size: int
    """Levels a bin."""
    first_edge: float
    """Where the bin of level 0 would begin, in levels, if it were not open."""
    min_log_scale: float

    @property
    def bins(self) -> int:
        return self.levels // self.bin_size

    def num_parameters(self, channels: int, *, has_scales: bool = True) -> int:
        """The channels of the parameters of images of C channels."""
        each = (2 if has_scales else 1) * channels + self.weighted
        if self.coupled:
            each += channels * (channels - 1) // 2
        return self.components * each


class LogisticParts(NamedTuple):
    """The parameters apart, in the accumulation dtype."""

    logits: Tensor | None
    """[N, M, H, W], of the components."""
    mean: Tensor
    """[N, C, M, H, W], raw, before the coupling."""
    log_scale: Tensor
    """[N, C, M, H, W], or [1, C, 1, 1, 1], raw."""
    coefficient: Tensor | None
    """[N, C(C-1)/2, M, H, W], raw: number c(c-1)/2 + j takes channel j to a later channel c."""

    def mean_given(self, channel: int, scaled: Tensor) -> Tensor:
        """The raw means [N, M, H, W] of a channel, coupled to the earlier ones, scaled to [−1, 1]:
        [N, C', 1 or M, H, W] with C' ≥ channel."""
        mean = self.mean[:, channel]
        if self.coefficient is not None:
            first = channel * (channel - 1) // 2
            for j in range(channel):
                mean = mean + torch.tanh(self.coefficient[:, first + j]) * scaled[:, j]
        return mean


def parts_of(
    parameters: Tensor, log_scale: Tensor | None, channels: int, s: LogisticSettings
) -> LogisticParts:
    """The parameters of images of C channels, apart."""
    wide, m = parameters.to(accumulation_dtype(parameters)), s.components
    pairs = channels * (channels - 1) // 2 if s.coupled else 0
    sizes = [s.weighted * m, channels * m, 0 if log_scale is not None else channels * m, pairs * m]
    logits, mean, scales, coefficient = wide.split(sizes, 1)
    if log_scale is not None:
        scales = log_scale.to(wide.dtype).view(1, channels, 1, 1, 1)
    else:
        scales = scales.unflatten(1, (channels, m))
    return LogisticParts(
        logits if s.weighted else None,
        mean.unflatten(1, (channels, m)),
        scales,
        coefficient.unflatten(1, (pairs, m)) if pairs else None,
    )


def in_levels(mean: Tensor, log_scale: Tensor, s: LogisticSettings) -> tuple[Tensor, Tensor]:
    """(μ, 1/s), in levels, of raw means and log-scales."""
    half = 0.5 * (s.levels - 1)
    inverse = torch.exp(-log_scale.clamp(s.min_log_scale, LARGEST_LOG_SCALE)) * (1 / half)
    return (mean + 1) * half, inverse


def bin_log_prob(index: Tensor, mean: Tensor, log_scale: Tensor, s: LogisticSettings) -> Tensor:
    """The log-probability of a bin, of which the first and the last are open.

    With a and b = a + d the bin's edges, less the mean, in scales: σ(b) − σ(a) =
    σ(b) σ(−a) (1 − e⁻ᵈ), which loses no digits, however far from the mean or narrow the bin is.
    """
    mu, inverse = in_levels(mean, log_scale, s)
    lower = index * s.bin_size + s.first_edge
    above = logsigmoid((mu - lower) * inverse)
    below = logsigmoid((lower + s.bin_size - mu) * inverse)
    width = torch.log(-torch.expm1(-s.bin_size * inverse))
    is_first, is_last = index == 0, index == s.bins - 1
    zero = above.new_zeros(())
    return (
        torch.where(is_first, zero, above)
        + torch.where(is_last, zero, below)
        + torch.where(is_first | is_last, zero, width)
    )


def component_log_prob(
    parts: LogisticParts, x: Tensor, channel: int, s: LogisticSettings
) -> Tensor:
    """log P(x_channel | x_<channel) of each component, [N, M, H, W]."""
    earlier = scaled(x[:, :channel, None].to(parts.mean.dtype), s)
    index = torch.div(x[:, channel : channel + 1], s.bin_size, rounding_mode="floor")
    mean = parts.mean_given(channel, earlier)
    return bin_log_prob(index.to(mean.dtype), mean, parts.log_scale[:, channel], s)


def scaled(levels: Tensor, s: LogisticSettings) -> Tensor:
    """Levels as numbers in [−1, 1]."""
    return levels * (2 / (s.levels - 1)) - 1


def reference_log_prob(
    parameters: Tensor, log_scale: Tensor | None, x: Tensor, s: LogisticSettings
) -> Tensor:
    """``logistic_mixture_log_prob`` in pure PyTorch."""
    x = x.long()  # with which the number of levels can be compared
    parts = parts_of(parameters, log_scale, x.shape[1], s)
    outside = ((x < 0) | (x.long() >= s.levels)).any(1)  # to uint8, 256 is 0
    terms = torch.stack([component_log_prob(parts, x, c, s) for c in range(x.shape[1])]).sum(0)
    if parts.logits is not None:
        result = (parts.logits.log_softmax(1) + terms).logsumexp(1)
    else:
        result = terms.squeeze(1)
    return result.masked_fill(outside, torch.nan)


# Derivatives of the compiled operators.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = LogisticSettings(*inputs[3:])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    parameters, log_scale, x = ctx.saved_tensors
    grads = _backward(grad, parameters, log_scale, x, *ctx.settings)
    of_scale = None if log_scale is None else grads[1]
    return grads[0], of_scale, *(None,) * (1 + len(ctx.settings))


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = LogisticSettings(*inputs[4:])


def _differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""
    *operands, x = ctx.saved_tensors
    has_scale = operands[2] is not None

    def reference_backward(grad: Tensor, parameters: Tensor, log_scale: Tensor | None) -> Any:
        log_prob = reference_log_prob(parameters, log_scale, x, ctx.settings)
        return gradients([log_prob], (parameters, log_scale), [grad])

    wanted = tangents if has_scale else (tangents[0], None)
    found = gradients_of_reference(reference_backward, operands, wanted)
    return *found, *(None,) * (1 + len(ctx.settings))


native_log_prob = differentiable(_ops.logistic_mixture_log_prob.default, _differentiate, _setup)
_backward = differentiable(
    _ops.logistic_mixture_log_prob_backward.default, _differentiate_backward, _backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::logistic_mixture_log_prob")
def _(parameters: Tensor, log_scale: Tensor | None, x: Tensor, *settings: Any) -> Tensor:
    n, _, height, width = x.shape
    return parameters.new_empty((n, height, width), dtype=accumulation_dtype(parameters))


@torch.library.register_fake("gencore::logistic_mixture_log_prob_backward")
def _(
    grad: Tensor, parameters: Tensor, log_scale: Tensor | None, x: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    scales = 0 if log_scale is None else log_scale.shape[0]
    wide = parameters.new_empty((scales,), dtype=accumulation_dtype(parameters))
    return torch.empty_like(parameters), wide
