"""The likelihood of PixelCNN++: a mixture of discretised logistics, one component a pixel."""

import torch
from torch import Tensor

from gencore.nn.likelihoods.logistic import draw_bin, expected_level, level_probabilities
from gencore.nn.likelihoods.pixel_likelihood import (
    DrawSpec,
    PixelLikelihood,
    check_levels_count,
    first_exceeding,
)
from gencore.ops import logistic_mixture_log_prob
from gencore.ops.logistic_mixture_reference import (
    LogisticSettings,
    component_log_prob,
    parts_of,
    scaled,
)

__all__ = ["DiscretizedLogisticMixture"]


class DiscretizedLogisticMixture(PixelLikelihood):
    r"""A mixture of M discretised logistics, whose channels follow each other.

    .. math:: p(x) = \sum_m \pi_m \prod_c P\big(x_c \mid \mu_{m,c}(x_{<c}), s_{m,c}\big),
              \qquad \mu_{m,c} = r_{m,c} + \sum_{j<c} \tanh(k_{m,c,j})\, \tilde x_j

    with P as for :class:`DiscretizedLogistic` and x̃ the levels scaled to [−1, 1], in which means r
    and scales are. Log-scales are clamped below at −7. With K = C(C − 1)/2 pairs of channels, or
    K = 0 if they are not coupled, the P = M(1 + 2C + K) parameters are

    ==================  ============  ==========================================================
    from                number        what
    ==================  ============  ==========================================================
    0                   M             logits of π
    M                   M·C           means r: that of channel c and component m is M + cM + m
    M(1 + C)            M·C           log-scales, in the same order
    M(1 + 2C)           M·K           k: pair (c, j) is block c(c − 1)/2 + j of M
    ==================  ============  ==========================================================

    U = C + 1. Uniform number 0 chooses the component, the first at which π, added up, exceeds it.
    Uniform number 1 + c makes channel c: μ + s·logit(u), rounded to the nearest level (up from the
    half), clamped to the levels.

    Args:
        levels: L.
        num_components: M.
        coupled: whether means follow the earlier channels of the pixel.

    Raises:
        ValueError: for values that do not fit.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized
        logistic mixture likelihood and other modifications", 2017, §2.1 and 2.2.

    Example:
        >>> import torch
        >>> from gencore.nn import DiscretizedLogisticMixture
        >>> likelihood = DiscretizedLogisticMixture(256, num_components=10)
        >>> likelihood.num_parameters(3), likelihood.num_uniforms(3)
        (100, 4)
        >>> x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> likelihood.log_prob(torch.zeros(2, 100, 8, 8), x).shape
        torch.Size([2, 8, 8])
    """

    def __init__(self, levels: int = 256, num_components: int = 10, coupled: bool = True) -> None:
        super().__init__()
        self.levels = check_levels_count("DiscretizedLogisticMixture", levels)
        if type(num_components) is not int or num_components < 1:
            raise ValueError(
                f"DiscretizedLogisticMixture: num_components is {num_components!r}; expected an "
                "integer from 1 on"
            )
        self.num_components, self.coupled = num_components, coupled
        self.settings = LogisticSettings(levels, num_components, True, coupled, 1, -0.5, -7.0)

    @property
    def spec(self) -> DrawSpec:
        return DrawSpec(
            "logistic", self.levels, self.num_components, self.coupled, self.settings.min_log_scale
        )

    def num_parameters(self, channels: int) -> int:
        return self.settings.num_parameters(channels)

    def num_uniforms(self, channels: int) -> int:
        return channels + 1

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return logistic_mixture_log_prob(
            parameters, x, levels=self.levels, num_components=self.num_components,
            coupled=self.coupled, min_log_scale=self.settings.min_log_scale,
        )  # fmt: skip

    def probabilities(self, parameters: Tensor, x: Tensor, channel: int) -> Tensor:
        wide, s = self._checked(parameters, x, channel), self.settings
        parts = parts_of(wide, None, x.shape[1], s)
        assert parts.logits is not None
        # Of the components, given the earlier channels.
        log_weights = parts.logits
        for c in range(channel):
            log_weights = log_weights + component_log_prob(parts, x, c, s)
        weights = log_weights.softmax(1)
        means = parts.mean_given(channel, scaled(x[:, :channel, None].to(wide.dtype), s))
        total = torch.zeros_like(weights[:, :1])
        for m in range(self.num_components):
            one = slice(m, m + 1)
            component = level_probabilities(means[:, one], parts.log_scale[:, channel, one], s)
            total = total + weights[:, one] * component
        return total

    def draw(self, parameters: Tensor, uniforms: Tensor, channel: int, x: Tensor) -> Tensor:
        wide, s = self._checked(parameters, x, channel, uniforms), self.settings
        parts = parts_of(wide, None, x.shape[1], s)
        assert parts.logits is not None
        component = first_exceeding(parts.logits, uniforms[:, 0]).unsqueeze(1)
        means = parts.mean_given(channel, scaled(x[:, :channel, None].to(wide.dtype), s))
        mean = means.gather(1, component).squeeze(1)
        log_scale = parts.log_scale[:, channel].gather(1, component).squeeze(1)
        return draw_bin(mean, log_scale, uniforms[:, 1 + channel], s)

    def mean(self, parameters: Tensor, channels: int) -> Tensor:
        """The expected level, [N, C, H, W]; float32 at least.

        Of a coupled channel it is the expectation at the component's expected earlier channels,
        which is exact but for what the ends of the range cut off.
        """
        s = self.settings
        parts = parts_of(self._wide(parameters, channels), None, channels, s)
        assert parts.logits is not None
        levels = parts.mean[:, :0]  # [N, channels so far, M, H, W]
        for c in range(channels):
            mean = parts.mean_given(c, scaled(levels, s))
            level = expected_level(mean, parts.log_scale[:, c], s)
            levels = torch.cat([levels, level.unsqueeze(1)], 1)
        return (parts.logits.softmax(1).unsqueeze(1) * levels).sum(2)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, num_components={self.num_components}, coupled={self.coupled}"
