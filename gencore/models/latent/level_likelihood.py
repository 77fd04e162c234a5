"""Images of finitely many levels around what a decoder gives."""

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from gencore.models.latent.decoder_likelihood import DecoderLikelihood, check_unit_interval
from gencore.nn.likelihoods.pixel_likelihood import PixelLikelihood
from gencore.ops.random import philox_uniform

__all__ = ["LevelLikelihood"]


class LevelLikelihood(DecoderLikelihood):
    """A likelihood of 8-bit or other discrete pixels, of images in [0, 1].

    An image's elements are levels v/(L − 1), v = 0, …, L − 1, and its log-probability is one, so
    that bounds of it count bits of the image. The decoder gives [N, P, H, W], with P the number of
    parameters of a pixel.

    Args:
        pixels: :class:`gencore.nn.Categorical`, :class:`gencore.nn.DiscretizedLogistic` or another
            distribution of a pixel.
        channels: C of the images.

    Raises:
        ValueError: if the pixels' distribution is not one of images with C channels, and on a call
            of a model with other data, or such beyond 0 and 1, which on the CPU are looked for.

    Example:
        >>> import torch
        >>> from gencore.models import LevelLikelihood
        >>> from gencore.nn import Categorical
        >>> likelihood = LevelLikelihood(Categorical(4), channels=1)
        >>> decoded = torch.zeros(2, *likelihood.decoded_shape(torch.Size([1, 3, 3])))
        >>> likelihood.log_prob(decoded, torch.rand(2, 1, 3, 3)).flatten(1).sum(1)
        tensor([-12.4766, -12.4766])
    """

    def __init__(self, pixels: PixelLikelihood, channels: int) -> None:
        super().__init__()
        pixels.num_parameters(channels)
        self.pixels, self.channels = pixels, channels

    def decoded_shape(self, event_shape: Size) -> Size:
        if len(event_shape) != 3 or event_shape[0] != self.channels:
            raise ValueError(
                f"LevelLikelihood: a data point has shape {list(event_shape)}; expected "
                f"[{self.channels}, H, W]"
            )
        return Size([self.pixels.num_parameters(self.channels), *event_shape[1:]])

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        check_unit_interval("LevelLikelihood", x)
        levels = (x * (self.pixels.levels - 1)).round().clamp(0, self.pixels.levels - 1).long()
        batch = torch.broadcast_shapes(decoded.shape[:-3], levels.shape[:-3])
        parameters = decoded.expand(*batch, *decoded.shape[-3:]).flatten(0, -4)
        levels = levels.expand(*batch, *levels.shape[-3:]).flatten(0, -4)
        return self.pixels.log_prob(parameters, levels).unflatten(0, batch)

    def mean(self, decoded: Tensor) -> Tensor:
        return self.pixels.mean(decoded, self.channels).to(decoded.dtype) / (self.pixels.levels - 1)

    def draw(self, decoded: Tensor, key: Tensor, first: int = 0) -> Tensor:
        num, _, height, width = decoded.shape
        shape = (num, self.pixels.num_uniforms(self.channels), height, width)
        first_element = first * shape[1] * height * width
        uniforms = philox_uniform(shape, key, first_element=first_element)
        levels = torch.zeros(
            num, self.channels, height, width, dtype=torch.int64, device=decoded.device
        )
        for channel in range(self.channels):
            levels[:, channel] = self.pixels.draw(decoded, uniforms, channel, levels)
        return levels.to(decoded.dtype) / (self.pixels.levels - 1)

    def distribution(self, decoded: Tensor) -> Distribution:
        raise NotImplementedError(
            "LevelLikelihood: torch.distributions has no such distribution of pixels; use log_prob "
            "and draw"
        )
