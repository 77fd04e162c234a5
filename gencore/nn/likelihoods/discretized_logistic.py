"""One logistic distribution a channel, cut into the levels."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.likelihoods.logistic import draw_bin, expected_level, level_probabilities
from gencore.nn.likelihoods.pixel_likelihood import DrawSpec, PixelLikelihood, check_levels_count
from gencore.ops import discretized_logistic_log_prob
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.logistic_mixture_reference import LogisticSettings

__all__ = ["DiscretizedLogistic", "SingleLogistic"]


class SingleLogistic(PixelLikelihood):
    """A likelihood of one logistic a channel, whatever its bins are.

    Args:
        settings: the bins.
        channels: C of the learned log-scales, one a channel; ``None`` where the network gives them.
    """

    log_scale: nn.Parameter | None

    def __init__(self, settings: LogisticSettings, channels: int | None) -> None:
        super().__init__()
        self.levels, self.settings = settings.levels, settings
        if channels is not None and (type(channels) is not int or channels < 1):
            raise ValueError(
                f"{type(self).__name__}: channels is {channels!r}; expected an integer from 1 on"
            )
        self.log_scale = None if channels is None else nn.Parameter(torch.zeros(channels))

    @property
    def spec(self) -> DrawSpec | None:
        return None

    def num_parameters(self, channels: int) -> int:
        if self.log_scale is None:
            return 2 * channels
        if channels != self.log_scale.numel():
            raise ValueError(
                f"{type(self).__name__}: has the scales of {self.log_scale.numel()} channels, but "
                f"the image has {channels}"
            )
        return channels

    def num_uniforms(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        if x.dim() == 4:  # else the operator says what is wrong
            self.num_parameters(x.shape[1])
        s = self.settings
        # The operator wants that of one in the dtype that it works in.
        wide = accumulation_dtype(parameters)
        log_scale = None if self.log_scale is None else self.log_scale.to(wide)
        return discretized_logistic_log_prob(
            parameters, x, levels=s.levels, log_scale=log_scale,
            bins=None if s.first_edge else s.bins, min_log_scale=s.min_log_scale,
        )  # fmt: skip

    def probabilities(self, parameters: Tensor, x: Tensor, channel: int) -> Tensor:
        wide = self._checked(parameters, x, channel)
        mean, log_scale = self._parts(wide, x.shape[1])
        part = slice(channel, channel + 1)
        return level_probabilities(mean[:, part], log_scale[:, part], self.settings)

    def draw(self, parameters: Tensor, uniforms: Tensor, channel: int, x: Tensor) -> Tensor:
        wide = self._checked(parameters, x, channel, uniforms)
        mean, log_scale = self._parts(wide, x.shape[1])
        mean, log_scale, u = (t[:, channel] for t in (mean, log_scale, uniforms))
        return draw_bin(mean, log_scale, u, self.settings)

    def mean(self, parameters: Tensor, channels: int) -> Tensor:
        mean, log_scale = self._parts(self._wide(parameters, channels), channels)
        return expected_level(mean, log_scale, self.settings)

    def _parts(self, parameters: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Raw means [N, C, H, W] and log-scales, [N, C, H, W] or [1, C, 1, 1]."""
        if self.log_scale is None:
            return parameters[:, :channels], parameters[:, channels:]
        return parameters, self.log_scale.to(parameters.dtype).view(1, -1, 1, 1)


class DiscretizedLogistic(SingleLogistic):
    r"""A logistic distribution a channel, cut into bins around the levels.

    .. math:: P(x) = \sigma\Big(\frac{x + \tfrac12 - \mu}{s}\Big)
                     - \sigma\Big(\frac{x - \tfrac12 - \mu}{s}\Big)

    The first bin reaches down to −∞, the last up to +∞. Parameters are those of levels scaled to
    [−1, 1], so that a mean of 0 is the middle: P = 2C, the means and then the log-scales; or P = C
    means, and a learned log-scale a channel. U = C: channel c is μ + s·logit(u) of uniform number
    c, rounded to the nearest level (up from the half) and clamped to the levels.

    Args:
        levels: L.
        scale: ``"pixel"``, from the network, or ``"channel"``, learned.
        channels: C of a learned scale.

    Raises:
        ValueError: for values that do not fit.

    References:
        Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016.
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (2.86).

    Example:
        >>> import torch
        >>> from gencore.nn import DiscretizedLogistic
        >>> likelihood, x = DiscretizedLogistic(4), torch.tensor([[[[0, 1]]]])
        >>> likelihood.log_prob(torch.zeros(1, 2, 1, 2), x).exp()
        tensor([[[0.3392, 0.1608]]])
    """

    Scale = Literal["pixel", "channel"]

    def __init__(self, levels: int = 256, scale: Scale = "pixel", *, channels: int = 3) -> None:
        levels = check_levels_count("DiscretizedLogistic", levels)
        check_choice("DiscretizedLogistic", "scale", scale, get_args(self.Scale))
        settings = LogisticSettings(levels, 1, False, False, 1, -0.5, -30.0)
        super().__init__(settings, channels if scale == "channel" else None)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, scale={'pixel' if self.log_scale is None else 'channel'!r}"
