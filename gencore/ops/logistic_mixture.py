"""The log-likelihood of pixels as bins of a logistic distribution, or of a mixture of them."""

from typing import Any

from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import accumulation_dtype, check_state, finite, index
from gencore.ops._support.pixels import check_levels, check_pixels
from gencore.ops.logistic_mixture_reference import (
    LogisticSettings,
    native_log_prob,
    reference_log_prob,
)

__all__ = ["discretized_logistic_log_prob", "logistic_mixture_log_prob"]

_MAX_LEVELS = 2**16


def discretized_logistic_log_prob(
    parameters: Tensor,
    x: Tensor,
    *,
    levels: int = 256,
    log_scale: Tensor | None = None,
    bins: int | None = None,
    min_log_scale: float = -30.0,
) -> Tensor:
    r"""The log-probability of each pixel under a logistic distribution a channel, cut into bins.

    .. math:: P(x) = \sigma\Big(\frac{x + \tfrac12 - \mu}{s}\Big)
                     - \sigma\Big(\frac{x - \tfrac12 - \mu}{s}\Big)

    The first bin reaches down to −∞ and the last up to +∞, so that the probabilities sum to one.
    With ``bins`` = b a bin is the c = L/b levels from c⌊x/c⌋ on, and the probability is that of the
    bin of x:

    .. math:: P(x) = \sigma\Big(\frac{c\lfloor x/c\rfloor + c - \mu}{s}\Big)
                     - \sigma\Big(\frac{c\lfloor x/c\rfloor - \mu}{s}\Big)

    The parameters are those of levels scaled to [−1, 1]: a mean r is μ = (r + 1)(L − 1)/2, a
    log-scale ρ is s = eᵖ (L − 1)/2. Differentiable in ``parameters`` and ``log_scale``, to any
    order. Exact to a few roundings at any distance from the mean and for any scale.

    Args:
        parameters: [N, 2C, H, W], the means of the C channels and then their log-scales; or the
            means alone, [N, C, H, W], if there is a ``log_scale``. float64, float32, bfloat16 or
            float16; half types are computed in float32.
        x: levels 0 … L − 1, [N, C, H, W], uint8 or int64.
        levels: L, 2 to 65536.
        log_scale: [C], one for all pixels of a channel, of the accumulation dtype or that of
            ``parameters``.
        bins: b, which divides L; ``None`` for a bin a level with the level in its middle.
        min_log_scale: log-scales are clamped to this from below, and to 30 from above.

    Returns:
        [N, H, W], in nats, summed over the channels; in float32, or float64 for float64.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, and on the CPU for a level
            outside of 0 … L − 1. On CUDA, where looking at them would stop the host, such a pixel
            gives NaN.

    References:
        Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016,
        appendix. Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020,
        (2.86) and (3.17), here with open bins at the ends.

    Example:
        >>> import torch
        >>> from gencore.ops import discretized_logistic_log_prob
        >>> x = torch.arange(4).view(1, 1, 1, 4)
        >>> discretized_logistic_log_prob(torch.zeros(1, 2, 1, 4), x, levels=4).exp()
        tensor([[[0.3392, 0.1608, 0.1608, 0.3392]]])
    """
    op = "discretized_logistic_log_prob"
    check_state(op, parameters, "parameters")
    channels = check_pixels(op, parameters, x, "parameters")
    levels = _check_levels(op, levels)
    bin_size, first_edge = 1, -0.5
    if bins is not None:
        bins = index(op, "bins", bins)
        if bins < 1 or levels % bins:
            raise ValueError(f"{op}: bins is {bins}; expected a divisor of levels, {levels}")
        bin_size, first_edge = levels // bins, 0.0
    lowest = _check_min_log_scale(op, min_log_scale)
    settings = LogisticSettings(levels, 1, False, False, bin_size, first_edge, lowest)
    if log_scale is not None:
        log_scale = _check_log_scale(op, parameters, log_scale, channels)
    _check_parameters(op, parameters, channels, settings, has_scales=log_scale is None)
    check_levels(op, x, levels)
    return _log_prob(parameters, log_scale, x, settings)


def logistic_mixture_log_prob(
    parameters: Tensor,
    x: Tensor,
    *,
    levels: int = 256,
    num_components: int,
    coupled: bool = True,
    min_log_scale: float = -7.0,
) -> Tensor:
    r"""The log-probability of each pixel under a mixture of discretised logistic distributions.

    .. math:: \log P(x) = \log \sum_m \pi_m \prod_c P\big(x_c \mid \mu_{m,c}(x_{<c}), s_{m,c}\big),
              \qquad \mu_{m,c} = r_{m,c} + \sum_{j<c} \tanh(k_{m,c,j})\, \tilde x_j

    with the P of :func:`discretized_logistic_log_prob`, here of levels x̃ scaled to [−1, 1]. A pixel
    has one component for all of its channels, and the mean of a channel follows the earlier ones.
    Differentiable in ``parameters``, to any order.

    Args:
        parameters: [N, M(1 + 2C + C(C − 1)/2), H, W]: the components' logits, M; the means r, M a
            channel; the log-scales, M a channel; and, if ``coupled``, the raw coefficients k, M a
            pair of channels, in the order (c, j) = (1, 0), (2, 0), (2, 1), … The component runs
            fastest: the mean of channel c and component m is number M + cM + m. float64, float32,
            bfloat16 or float16; half types are computed in float32.
        x: levels 0 … L − 1, [N, C, H, W], uint8 or int64.
        levels: L, 2 to 65536.
        num_components: M.
        coupled: whether means follow the earlier channels.
        min_log_scale: log-scales are clamped to this from below, and to 30 from above.

    Returns:
        [N, H, W], in nats, summed over the channels; in float32, or float64 for float64.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, and on the CPU for a level
            outside of 0 … L − 1. On CUDA, where looking at them would stop the host, such a pixel
            gives NaN.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized
        logistic mixture likelihood and other modifications", 2017, §2.1 and 2.2.

    Example:
        >>> import torch
        >>> from gencore.ops import logistic_mixture_log_prob
        >>> x = torch.arange(4).view(1, 1, 1, 4)
        >>> logistic_mixture_log_prob(torch.zeros(1, 6, 1, 4), x, levels=4, num_components=2).exp()
        tensor([[[0.3392, 0.1608, 0.1608, 0.3392]]])
    """
    op = "logistic_mixture_log_prob"
    check_state(op, parameters, "parameters")
    channels = check_pixels(op, parameters, x, "parameters")
    levels = _check_levels(op, levels)
    num_components = index(op, "num_components", num_components)
    if num_components < 1:
        raise ValueError(f"{op}: num_components is {num_components}; expected one or more")
    lowest = _check_min_log_scale(op, min_log_scale)
    settings = LogisticSettings(levels, num_components, True, bool(coupled), 1, -0.5, lowest)
    _check_parameters(op, parameters, channels, settings, has_scales=True)
    check_levels(op, x, levels)
    return _log_prob(parameters, None, x, settings)


def _log_prob(
    parameters: Tensor, log_scale: Tensor | None, x: Tensor, settings: LogisticSettings
) -> Tensor:
    if state.reference:
        return reference_log_prob(parameters, log_scale, x, settings)
    result: Tensor = native_log_prob(parameters, log_scale, x, *settings)
    return result


def _check_levels(op: str, levels: int) -> int:
    levels = index(op, "levels", levels)
    if not 2 <= levels <= _MAX_LEVELS:
        raise ValueError(f"{op}: levels is {levels}; expected 2 to {_MAX_LEVELS}")
    return levels


def _check_min_log_scale(op: str, value: float) -> float:
    lowest = finite(op, "min_log_scale", value)
    if not -30 <= lowest <= 30:
        raise ValueError(f"{op}: min_log_scale is {lowest}; expected -30 to 30")
    return lowest


def _check_log_scale(op: str, parameters: Tensor, log_scale: Any, channels: int) -> Tensor:
    check_state(op, log_scale, "log_scale")
    wide = accumulation_dtype(parameters)
    if log_scale.dtype not in (wide, parameters.dtype):
        raise TypeError(
            f"{op}: log_scale is {log_scale.dtype}, expected {wide} for parameters of "
            f"{parameters.dtype}"
        )
    if list(log_scale.shape) != [channels]:
        raise ValueError(
            f"{op}: log_scale has shape {list(log_scale.shape)}, expected one a channel of x: "
            f"[{channels}]"
        )
    if log_scale.device != parameters.device:
        raise ValueError(
            f"{op}: log_scale is on {log_scale.device}, parameters on {parameters.device}"
        )
    result: Tensor = log_scale.to(wide)
    return result


def _check_parameters(
    op: str, parameters: Tensor, channels: int, settings: LogisticSettings, *, has_scales: bool
) -> None:
    if channels == 0:
        raise ValueError(f"{op}: x has no channels")
    expected = settings.num_parameters(channels, has_scales=has_scales)
    if parameters.shape[1] != expected:
        raise ValueError(
            f"{op}: parameters has {parameters.shape[1]} channels, expected {expected} for x of "
            f"{channels}"
        )
