"""Multi-scale PixelRNN: a small image, and the whole one given it."""

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor, nn

from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod
from gencore.models.autoregressive.pixel_rnn import LSTMCell, PixelRNN
from gencore.models.autoregressive.sampling import Known
from gencore.nn import PixelInput
from gencore.nn.likelihoods import PixelLikelihood
from gencore.sizes import check_whole

__all__ = ["MultiScalePixelRNN"]


class MultiScalePixelRNN(AutoregressiveImageModel):
    r"""A model of every s-th pixel of every s-th row, and a PixelRNN of the others given these.

    .. math:: \log p(x) = \log p_{\text{small}}(x_S) + \sum_{i \notin S}
              \log p(x_i \mid x_{<i}, u(x_S))

    where S are the pixels whose row and column are multiples of s. The small image :math:`x_S` is
    upsampled to features u by a transposed convolution, which bias the gates of every LSTM of the
    large network. This one sees the pixels before i in raster order, those of S among them. The
    paper's large network gives a distribution of all pixels; at those of S it is not used here,
    since they are known, so that p is a distribution of images: its sum over all of them is 1. The
    channels of a pixel that is not in S see each other as in `PixelRNN`.

    The order of the pixels is that of the small model, and then that of the raster: a completion is
    of the small image first, and `log_prob` counts no pixels from the middle of an image.

    Args:
        image_shape: [C, H, W], with sides that are multiples of s.
        channels: h of the large network, and of the small one.
        num_layers: LSTM layers of each.
        factor: s, at least 2.
        small: the model of images [C, H/s, W/s] of as many levels; a `PixelRNN` like the large one
            by default. It may be a `MultiScalePixelRNN`.
        cell, levels, kernel_size, first_kernel_size, output_channels, likelihood, channel_groups:
            of `PixelRNN`.

    Attributes:
        small: the model of the small image.
        large: the `PixelRNN` of the others.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.6.

    Example:
        >>> import torch
        >>> from gencore.models import MultiScalePixelRNN
        >>> model = MultiScalePixelRNN((1, 8, 8), channels=8, num_layers=1, levels=2)
        >>> model.log_prob(torch.randint(2, (5, 1, 8, 8))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 66,
        num_layers: int = 7,
        *,
        factor: int = 2,
        small: AutoregressiveImageModel | None = None,
        cell: LSTMCell = "diagonal_bilstm",
        levels: int | None = None,
        kernel_size: int | None = None,
        first_kernel_size: int = 7,
        output_channels: int | None = None,
        likelihood: PixelLikelihood | None = None,
        channel_groups: int | None = None,
    ) -> None:
        name = "MultiScalePixelRNN"
        check_whole(name, image_shape=image_shape, factor=factor)
        if factor < 2 or any(side % factor for side in image_shape[1:]):
            raise ValueError(
                f"{name}: factor is {factor}; expected at least 2 and a divisor of the sides of "
                f"{list(image_shape)}"
            )

        def rnn(shape: tuple[int, int, int], context_channels: int) -> PixelRNN:
            return PixelRNN(
                shape,
                channels,
                num_layers,
                cell=cell,
                levels=levels,
                kernel_size=kernel_size,
                first_kernel_size=first_kernel_size,
                output_channels=output_channels,
                likelihood=likelihood,
                channel_groups=channel_groups,
                context_channels=context_channels,
            )

        large = rnn(image_shape, 2 * channels)
        super().__init__(image_shape, large.likelihood, channel_groups=large.channel_groups)
        colours, height, width = self.image_shape
        shape = (colours, height // factor, width // factor)
        small = rnn(shape, 0) if small is None else small
        if small.image_shape != shape or small.likelihood.levels != large.likelihood.levels:
            raise ValueError(
                f"{name}: small is a model of {small.likelihood.levels} levels and images "
                f"{list(small.image_shape)}; expected {large.likelihood.levels} levels and "
                f"{list(shape)}"
            )
        uniforms = [part.likelihood.num_uniforms(colours) for part in (small, large)]
        if uniforms[0] > uniforms[1]:
            raise ValueError(
                f"{name}: the likelihood of small takes {uniforms[0]} uniforms a pixel; expected "
                f"at most {uniforms[1]}, those of {type(large.likelihood).__name__}"
            )
        self.factor = factor
        self.small = small
        self.large = large
        self.upsampling = Upsampling(colours, large.likelihood.levels, 2 * channels, factor)

    def subsample(self, x: Tensor) -> Tensor:
        """x_S [N, C, H/s, W/s], which is a view."""
        return x[..., :: self.factor, :: self.factor]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters [N, P, H, W] of the large network at x; those at the pixels of S are not used.

        Args:
            x: levels [N, C, H, W], uint8 or int64.
            context: there is none.
        """
        self._refuse(context)
        parameters: Tensor = self.large(x, self.upsampling(self.subsample(x)))
        return parameters

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, first_pixel: int = 0) -> Tensor:
        self.check_levels("log_prob", x)
        if first_pixel != 0:
            raise ValueError(
                f"MultiScalePixelRNN.log_prob: first_pixel is {first_pixel}; expected 0, since the "
                "pixels are not modelled in raster order"
            )
        pixels = self.likelihood.log_prob(self(x, context), x)
        others = pixels.masked_fill(self._given(x.device), 0)
        return self.small.log_prob(self.subsample(x)) + others.flatten(1).sum(1)

    def plan(self, num: int, context: Tensor | None = None, *, keep_all: bool = False) -> NoReturn:
        """Raises a ValueError: LSTMs are not compiled."""
        raise ValueError(
            "MultiScalePixelRNN.plan: LSTMs are not compiled, so that there is no plan of them"
        )

    def draw(
        self,
        method: SamplingMethod,
        images: Known,
        context: Tensor | None,
        uniforms: Tensor,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """The small image, with rows of its own in `progress`, and then the others."""
        self._refuse(context)
        mask = torch.zeros_like(images.x, dtype=torch.bool) if images.mask is None else images.mask
        rows = 0

        def report(done: int, there: int) -> None:
            nonlocal rows
            rows = there
            if progress is not None:
                progress(done, there + self.image_shape[1])

        of_small = self.small.likelihood.num_uniforms(self.image_shape[0])
        self.small.draw(
            method,
            Known(self.subsample(images.x), self.subsample(mask)),
            None,
            self.subsample(uniforms[:, :of_small]),
            report,
        )
        self.large.draw(
            method,
            Known(images.x, mask | self._given(mask.device)),
            self.upsampling(self.subsample(images.x)),
            uniforms,
            None if progress is None else lambda done, there: progress(rows + done, rows + there),
        )

    def _given(self, device: torch.device) -> Tensor:
        """Where the pixels of S are, bool [H, W]."""
        given = torch.zeros(self.image_shape[1:], dtype=torch.bool, device=device)
        self.subsample(given).fill_(True)
        return given

    def _refuse(self, context: Tensor | None) -> None:
        if context is not None:
            raise ValueError("MultiScalePixelRNN: got a context; expected none")


class Upsampling(nn.Module):
    """Features [N, K, sH, sW] of a small image: convolutions around a transposed one.

    Args:
        image_channels: C of levels [N, C, H, W].
        levels: of the image.
        channels: K.
        factor: s.
    """

    def __init__(self, image_channels: int, levels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.input = PixelInput(image_channels, levels, border=True)
        self.first = nn.Conv2d(self.input.out_channels, channels, 3, padding=1)
        side = factor // 2
        self.enlarge = nn.ConvTranspose2d(
            channels, channels, factor + 2 * side, stride=factor, padding=side
        )
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enlarge(torch.relu(self.first(self.input(x))))
        return torch.relu(self.last(torch.relu(y)))
