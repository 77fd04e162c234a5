"""What auxiliary targets share: a factorised likelihood of their pixels, and their upsampling."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from gencore.nn.likelihoods import QuantizedLogistic

__all__ = ["AuxiliaryTarget", "in_bins"]


class AuxiliaryTarget(nn.Module, ABC):
    r"""An image y that an image x determines, and its likelihood given a map f of means.

    .. math:: p(y \mid f) = \prod_j \Big[
              \sigma\Big(\frac{c + c\lfloor y_j/c\rfloor - \mu_j}{s}\Big)
              - \sigma\Big(\frac{c\lfloor y_j/c\rfloor - \mu_j}{s}\Big)\Big], \qquad c = L/b

    f holds the means μ of all pixels and channels of y, scaled so that −1 and 1 are the lowest and
    the highest level. Each channel has a scale s, which is learned. Every y consists of multiples
    of c, so the probabilities of all y add up to 1.

    Args:
        image_shape: [C, H, W] of x.
        shape: of y and of f.
        levels: L, of x and of y.
        bins: b, the values that a pixel of y can have; a divisor of L.

    Attributes:
        image_shape, shape, levels, bins: as given.
        likelihood: of y.

    Raises:
        ValueError: for values that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (3.17) and
        section 3.4.5.
    """

    def __init__(
        self, image_shape: Sequence[int], shape: Sequence[int], levels: int, bins: int
    ) -> None:
        super().__init__()
        self.image_shape, self.shape = tuple(image_shape), tuple(shape)
        self.levels, self.bins = levels, bins
        self.likelihood = QuantizedLogistic(levels, bins, channels=shape[0])

    @property
    def determines_image(self) -> bool:
        """Whether y is x itself, so that its likelihood is that of x."""
        return False

    @abstractmethod
    def target(self, x: Tensor) -> Tensor:
        """y [N, *shape] of levels x [N, C, H, W], in the dtype of x."""

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """log p(y | f) [N] in nats.

        Args:
            f: means [N, *shape].
            y: levels [N, *shape].
        """
        return self.likelihood.log_prob(f, y).flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, f: Tensor, *, generator: Generator | None = None) -> Tensor:
        """y ~ p(y | f), int64 [N, *shape]: each of its levels a multiple of L/b."""
        uniforms = torch.rand(f.shape, generator=generator, device=f.device)
        y = torch.zeros(f.shape, dtype=torch.int64, device=f.device)
        for channel in range(self.shape[0]):
            y[:, channel] = self.likelihood.draw(f, uniforms, channel, y)
        return y

    def context(self, f: Tensor) -> Tensor:
        """f [N, *shape] in the resolution of x: each element is repeated over its pixels."""
        rows, columns = (
            side // part for side, part in zip(self.image_shape[1:], self.shape[1:], strict=True)
        )
        if (rows, columns) == (1, 1):
            return f
        return f.repeat_interleave(rows, 2).repeat_interleave(columns, 3)

    def image(self, f: Tensor) -> Tensor:
        """f as images [N, C, H, W] in [0, 1] to look at; grey ones where y has fewer channels."""
        image = ((self.context(f) + 1) / 2).clamp(0, 1)
        return image.expand(-1, self.image_shape[0], -1, -1)

    def extra_repr(self) -> str:
        return f"{list(self.image_shape)} to {list(self.shape)}"


def in_bins(y: Tensor, levels: int, bins: int) -> Tensor:
    """Levels rounded down to multiples of L/b."""
    size = levels // bins
    return y if size == 1 else y.div(size, rounding_mode="floor") * size
