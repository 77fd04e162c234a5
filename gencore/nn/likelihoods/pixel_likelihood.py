"""What a likelihood of discrete pixels is: a network's output as the distribution of a pixel."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from gencore.ops._support.checks import accumulation_dtype
from gencore.ops._support.pixels import check_pixels

__all__ = ["DrawSpec", "PixelLikelihood", "check_levels_count", "first_exceeding"]


@dataclass(frozen=True)
class DrawSpec:
    """How a pixel is drawn from the parameters, for samplers that do so in compiled code.

    Args:
        kind: ``"categorical"`` for :class:`gencore.nn.Categorical`, ``"logistic"`` for
            :class:`gencore.nn.DiscretizedLogisticMixture`, which say what is done.
        levels: number of values of a channel.
        num_components: of a mixture of logistics.
        coupled: whether a logistic's mean follows the earlier channels of the pixel.
        min_log_scale: below which no logistic's log-scale is.
    """

    kind: Literal["categorical", "logistic"]
    levels: int
    num_components: int = 1
    coupled: bool = False
    min_log_scale: float = -7.0


class PixelLikelihood(nn.Module, ABC):
    r"""The distribution of a pixel with C channels of L levels, given a network's output there.

    .. math:: \log p(x \mid \theta) = \sum_{c} \log p(x_c \mid x_{<c}, \theta)

    Parameters θ are [N, P, H, W], pixels [N, C, H, W] of uint8 or int64 levels. Vectors [N, D] are
    images [N, 1, 1, D]. Half types are computed in float32.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §2.
    """

    levels: int
    """L: values are from 0 up, below L."""

    @property
    @abstractmethod
    def spec(self) -> DrawSpec | None:
        """What :meth:`draw` does, or ``None`` where no compiled sampler has it."""

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """P, the channels of the network's output for images of C channels."""

    @abstractmethod
    def num_uniforms(self, channels: int) -> int:
        """U, how many uniforms a pixel's draw takes."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x | θ) [N, H, W] in nats, summed over the pixel's channels; float32 at least."""

    @abstractmethod
    def probabilities(self, parameters: Tensor, x: Tensor, channel: int) -> Tensor:
        """p(x_c = v | x_<c, θ) of every level v of a channel c, [N, L, H, W].

        It reads those channels of ``x`` alone that come before c.
        """

    @abstractmethod
    def draw(self, parameters: Tensor, uniforms: Tensor, channel: int, x: Tensor) -> Tensor:
        """The level of a channel c, int64 [N, H, W], by inversion of its distribution function.

        Args:
            parameters: θ.
            uniforms: [N, U, H, W], in [0, 1), the same ones for all channels of a pixel.
            channel: c.
            x: [N, C, H, W], of which the channels before c are read.
        """

    @abstractmethod
    def mean(self, parameters: Tensor, channels: int) -> Tensor:
        """The expected level, [N, C, H, W]; float32 at least."""

    def _check(self, parameters: Tensor, channels: int) -> None:
        """Raise where the parameters do not fit images of C channels."""
        name, expected = type(self).__name__, self.num_parameters(channels)
        if parameters.dim() != 4 or parameters.shape[1] != expected:
            raise ValueError(
                f"{name}: parameters has shape {list(parameters.shape)}; expected "
                f"[N, {expected}, H, W] for images of {channels} channels"
            )

    def _wide(self, parameters: Tensor, channels: int) -> Tensor:
        """The parameters in the dtype in which they are used, or raise where they do not fit."""
        self._check(parameters, channels)
        return parameters.to(accumulation_dtype(parameters))

    def _checked(
        self, parameters: Tensor, x: Tensor, channel: int, uniforms: Tensor | None = None
    ) -> Tensor:
        """:meth:`_wide`, or raise where a channel of ``x`` or uniforms do not fit."""
        name = type(self).__name__
        channels = check_pixels(name, parameters, x, "parameters")
        if not 0 <= channel < channels:
            raise ValueError(f"{name}: channel is {channel}; expected 0 to {channels - 1}")
        expected = [x.shape[0], self.num_uniforms(channels), *x.shape[2:]]
        if uniforms is not None and list(uniforms.shape) != expected:
            raise ValueError(
                f"{name}: uniforms has shape {list(uniforms.shape)}; expected {expected}"
            )
        return self._wide(parameters, channels)


def first_exceeding(logits: Tensor, uniforms: Tensor) -> Tensor:
    """The first index along dimension 1 at which a softmax, added up, exceeds the uniform
    [N, H, W]; the last one where rounding keeps it below."""
    cumulative = logits.softmax(1).cumsum(1)
    index = (cumulative <= uniforms.unsqueeze(1)).sum(1)
    return index.clamp(max=logits.shape[1] - 1)


def check_levels_count(name: str, levels: Any) -> int:
    """Raise unless this is a number of levels."""
    if type(levels) is not int or not 2 <= levels <= 2**16:
        raise ValueError(f"{name}: levels is {levels!r}; expected an integer from 2 to 65536")
    return levels
