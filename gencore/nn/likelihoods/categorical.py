"""Categorical pixels: a softmax over the levels of each channel."""

import torch
from torch import Tensor

from gencore.nn.likelihoods.pixel_likelihood import (
    DrawSpec,
    PixelLikelihood,
    check_levels_count,
    first_exceeding,
)
from gencore.ops import categorical_log_prob

__all__ = ["Categorical"]


class Categorical(PixelLikelihood):
    r"""A softmax over the L levels of each channel.

    .. math:: p(x_c = v \mid \theta) = \frac{e^{\theta_{cL + v}}}{\sum_u e^{\theta_{cL + u}}}

    P = C·L: the logits of channel c are the block from c·L on. Channels do not depend on each other
    but through the network. U = C: channel c is the first level at which the softmax, added up,
    exceeds uniform number c. Two levels are the Bernoulli case, whose logit is the difference of
    the two.

    Args:
        levels: L.

    Raises:
        ValueError: for a number of levels that is not 2 to 65536.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (2.85).

    Example:
        >>> import torch
        >>> from gencore.nn import Categorical
        >>> likelihood, x = Categorical(4), torch.tensor([[[[0, 3]]]])
        >>> likelihood.log_prob(torch.zeros(1, 4, 1, 2), x)
        tensor([[[-1.3863, -1.3863]]])
    """

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.levels = check_levels_count("Categorical", levels)

    @property
    def spec(self) -> DrawSpec:
        return DrawSpec("categorical", self.levels)

    def num_parameters(self, channels: int) -> int:
        return channels * self.levels

    def num_uniforms(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        if x.dim() == 4:  # else the operator says what is wrong
            self._check(parameters, x.shape[1])
        return categorical_log_prob(parameters, x)

    def probabilities(self, parameters: Tensor, x: Tensor, channel: int) -> Tensor:
        return self._logits(self._checked(parameters, x, channel), channel).softmax(1)

    def draw(self, parameters: Tensor, uniforms: Tensor, channel: int, x: Tensor) -> Tensor:
        wide = self._checked(parameters, x, channel, uniforms)
        return first_exceeding(self._logits(wide, channel), uniforms[:, channel])

    def mean(self, parameters: Tensor, channels: int) -> Tensor:
        logits = self._wide(parameters, channels).unflatten(1, (channels, self.levels))
        values = torch.arange(self.levels, device=logits.device, dtype=logits.dtype)
        return (logits.softmax(2) * values[:, None, None]).sum(2)

    def _logits(self, parameters: Tensor, channel: int) -> Tensor:
        return parameters[:, channel * self.levels : (channel + 1) * self.levels]

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
