"""PixelCNN: a stack of masked convolutions."""

import torch
from torch import Tensor, nn

from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.outputs import (
    OutputLayers,
    check_kernel_sizes,
    choose_groups,
    choose_likelihood,
)
from gencore.nn import ContextMap, MaskedConv2d, PixelInput
from gencore.nn.likelihoods import PixelLikelihood
from gencore.sizes import check_positive

__all__ = ["PixelCNN"]


class PixelCNN(AutoregressiveImageModel):
    """PixelCNN: a masked convolution with mask A, then residual blocks with mask B.

    A block has 2h channels, of which it makes h by a 1×1 convolution, and h by one of k×k, and
    again 2h, each after a ReLU. Two 1×1 convolutions give the parameters. The pixels that are seen
    have a blind spot, a wedge to the right above (:func:`receptive_field`); :class:`GatedPixelCNN`
    has none.

    Args:
        image_shape: [C, H, W].
        channels: h, a multiple of `channel_groups`.
        num_layers: residual blocks.
        levels: L of the levels 0 … L − 1: 256 by default, or those of the likelihood.
        kernel_size: k, odd.
        first_kernel_size: of the first convolution, odd.
        output_channels: between the last two convolutions; 2h by default.
        likelihood: of a pixel given the parameters; `Categorical` by default.
        channel_groups: C where a channel sees those of its own pixel before it, as green sees red,
            which is the default for `Categorical`; 1 where it sees earlier pixels alone.
        context_channels: K of contexts [N, K] or [N, K, H, W], added after a 1×1 convolution to the
            k×k one of each block; 0 for none. A class is a one-hot row.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.4,
        §3.5 and table 1.

    Example:
        >>> import torch
        >>> from gencore.models import PixelCNN
        >>> model = PixelCNN((3, 8, 8), channels=12, num_layers=2, levels=16)
        >>> model.log_prob(torch.randint(16, (5, 3, 8, 8))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 66,
        num_layers: int = 7,
        *,
        levels: int | None = None,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        output_channels: int | None = None,
        likelihood: PixelLikelihood | None = None,
        channel_groups: int | None = None,
        context_channels: int = 0,
    ) -> None:
        likelihood = choose_likelihood("PixelCNN", levels, likelihood)
        width = 2 * channels if output_channels is None else output_channels
        groups = choose_groups(
            "PixelCNN",
            image_shape[0],
            likelihood,
            channel_groups,
            channels=channels,
            output_channels=width,
        )
        super().__init__(image_shape, likelihood, channel_groups=groups)
        check_positive("PixelCNN", num_layers=num_layers)
        check_kernel_sizes("PixelCNN", 1, kernel_size=kernel_size)
        check_kernel_sizes("PixelCNN", 3, first_kernel_size=first_kernel_size)
        colours, *sides = self.image_shape
        self.context = ContextMap("PixelCNN", context_channels, (sides[0], sides[1]))
        self.input = PixelInput(colours, likelihood.levels)
        self.first = MaskedConv2d(
            colours, 2 * channels, first_kernel_size, mask="A", channel_groups=groups
        )
        self.blocks = nn.ModuleList(
            _ResidualBlock(channels, kernel_size, groups, context_channels)
            for _ in range(num_layers)
        )
        self.outputs = OutputLayers(2 * channels, width, likelihood.num_parameters(colours), groups)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = self.context(context)
        features = self.first(self.input(x))
        for block in self.blocks:
            features = block(features, context)
        parameters: Tensor = self.outputs(features)
        return parameters


class _ResidualBlock(nn.Module):
    """Figure 5 (left) of the paper, and the context."""

    def __init__(self, channels: int, kernel_size: int, groups: int, context_channels: int) -> None:
        super().__init__()
        self.reduce = MaskedConv2d(2 * channels, channels, 1, mask="B", channel_groups=groups)
        self.mix = MaskedConv2d(channels, channels, kernel_size, mask="B", channel_groups=groups)
        self.widen = MaskedConv2d(channels, 2 * channels, 1, mask="B", channel_groups=groups)
        self.context = (
            nn.Conv2d(context_channels, channels, 1, bias=False) if context_channels else None
        )

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        y = self.mix(torch.relu(self.reduce(torch.relu(x))))
        if self.context is not None:
            y = y + self.context(context)
        result: Tensor = x + self.widen(torch.relu(y))
        return result
