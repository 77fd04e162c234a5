"""PixelCNN++: two streams of gated residual blocks over several resolutions."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.models.autoregressive.context_features import DeepContext, SharedContext
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.outputs import choose_likelihood
from gencore.nn import CausalConv2d, CausalConvTranspose2d, ContextMap, PixelInput
from gencore.nn.likelihoods import DiscretizedLogisticMixture, PixelLikelihood
from gencore.nn.parametrized import weight_norm as normalise_weight
from gencore.sizes import check_positive

__all__ = ["PixelCNNPlusPlus"]

# The last convolution of a residual block starts so small that blocks are about the identity.
_RESIDUAL_SCALE = 0.1


class PixelCNNPlusPlus(AutoregressiveImageModel):
    r"""PixelCNN++: streams of the pixels above, and of those above and to the left.

    .. math:: x \leftarrow x + a \odot \sigma(b), \quad
              (a, b) = W_2 * e\big(W_1 * e(x) + U e(s)\big) + V c, \quad
              e(y) = \operatorname{elu}([y, -y])

    A stream is made of such blocks, with s the other stream's features and, on the way back, those
    of the way there; and c a context. On the way there a convolution of stride 2 follows the blocks
    of each resolution but the last, and a transposed one on the way back. A channel of ones tells
    the image from the zeros around it.

    Args:
        image_shape: [C, H, W], with H and W multiples of 2^(num_scales − 1).
        channels: of each stream.
        num_resnets: blocks of each resolution and way; one more on the way back of all resolutions
            but the smallest.
        num_scales: resolutions.
        levels: L of the levels 0 … L − 1: 256 by default, or those of the likelihood.
        likelihood: of a pixel given the parameters; by default `DiscretizedLogisticMixture`, in
            which a channel follows those of its own pixel before it.
        dropout: probability, within the blocks.
        context_channels: K of contexts [N, K] or [N, K, H, W]; 0 for none. A class is a one-hot
            row.
        deep_context: each block adds a 1×1 convolution of features of the context, which are made
            by a residual 3×3 convolution a block, at the block's resolution; without it of the
            context, averaged to that resolution.
        weight_norm: weights as w = g·v/‖v‖; see also :meth:`initialize`.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized
        logistic mixture likelihood and other modifications", 2017. Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, §3.3.2, for the deep context.

    Example:
        >>> import torch
        >>> from gencore.models import PixelCNNPlusPlus
        >>> model = PixelCNNPlusPlus((3, 8, 8), channels=8, num_resnets=1, num_scales=2)
        >>> model.log_prob(torch.randint(256, (5, 3, 8, 8))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 160,
        num_resnets: int = 5,
        num_scales: int = 3,
        *,
        levels: int | None = None,
        likelihood: PixelLikelihood | None = None,
        dropout: float = 0.5,
        context_channels: int = 0,
        deep_context: bool = False,
        weight_norm: bool = False,
    ) -> None:
        name = "PixelCNNPlusPlus"
        if likelihood is None:
            likelihood = DiscretizedLogisticMixture(256 if levels is None else levels)
        likelihood = choose_likelihood(name, levels, likelihood)
        super().__init__(image_shape, likelihood)
        check_positive(name, channels=channels, num_resnets=num_resnets, num_scales=num_scales)
        colours, height, width = self.image_shape
        divisor = 2 ** (num_scales - 1)
        if height % divisor or width % divisor:
            raise ValueError(
                f"{name}: image_shape is {image_shape}, but {num_scales} scales need sides that "
                f"are multiples of {divisor}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"{name}: dropout is {dropout}; expected from 0 to below 1")
        if deep_context and not context_channels:
            raise ValueError(f"{name}: deep_context needs a context, but context_channels is 0")
        self.context = ContextMap(name, context_channels, (height, width))
        self.features: DeepContext | SharedContext | None = None
        if deep_context:
            self.features = DeepContext(
                context_channels, channels, (height, width), num_resnets, num_scales
            )
        elif context_channels:
            self.features = SharedContext(num_resnets, num_scales)
        c = channels if deep_context else context_channels

        # On the way back a block for all that was made on the way there, but the last.
        counts = [num_resnets] + [num_resnets + 1] * (num_scales - 1)
        self.input = PixelInput(colours, likelihood.levels, border=True)
        self.start = _Start(self.input.out_channels, channels)
        self.there = nn.ModuleList(
            nn.ModuleList(_Block(channels, c, dropout, back=False) for _ in range(num_resnets))
            for _ in range(num_scales)
        )
        self.down = nn.ModuleList(_Down(channels) for _ in range(num_scales - 1))
        self.back = nn.ModuleList(
            nn.ModuleList(_Block(channels, c, dropout, back=True) for _ in range(count))
            for count in counts
        )
        self.up = nn.ModuleList(_Up(channels) for _ in range(num_scales - 1))
        self.last = nn.Conv2d(channels, likelihood.num_parameters(colours), 1)
        if weight_norm:
            for layer in list(self._convolutions()):
                normalise_weight(layer, dim=_output_dim(layer))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = self.context(context)
        there, back = (None, None) if self.features is None else self.features(context)
        streams = self.start(self.input(x))
        kept = [streams]
        for scale, blocks in enumerate(self.there):
            if scale:
                streams = self.down[scale - 1](streams)
                kept.append(streams)
            for number, block in enumerate(blocks.children()):
                streams = block(streams, None, None if there is None else there[scale][number])
                kept.append(streams)
        kept.pop()
        for scale, blocks in enumerate(self.back):
            if scale:
                streams = self.up[scale - 1](streams)
            for number, block in enumerate(blocks.children()):
                streams = block(streams, kept.pop(), None if back is None else back[scale][number])
        parameters: Tensor = self.last(functional.elu(streams[1]))
        return parameters

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start normalised weights from data: outputs have mean 0 and standard deviation 1.

        Those of a block's last convolution have a tenth of that.

        Args:
            x: levels [N, C, H, W] of some images.
            context: what they are conditioned on.

        Raises:
            ValueError: for a network without normalised weights, or images that do not fit.

        References:
            Salimans and Kingma, "Weight normalization", 2016, eqs. (5) and (6).
        """
        self.check_levels("initialize", x)
        if len(x) == 0:
            raise ValueError("PixelCNNPlusPlus.initialize: x has no images to start from")
        blocks = (module for module in self.modules() if isinstance(module, _GatedResnet))
        small = {block.second.conv for block in blocks}

        def set_scale(layer: nn.Module, _: object, y: Tensor) -> Tensor:
            assert isinstance(layer.bias, nn.Parameter)
            target = _RESIDUAL_SCALE if layer in small else 1.0
            mean = y.mean((0, 2, 3))
            factor = target / y.std((0, 2, 3), correction=0).clamp(min=1e-8)
            magnitude = layer.get_parameter("parametrizations.weight.original0")
            magnitude.mul_(factor.view_as(magnitude))
            layer.bias.copy_((layer.bias - mean) * factor)
            return (y - mean[:, None, None]) * factor[:, None, None]

        layers = list(self._convolutions())
        if not hasattr(layers[0], "parametrizations"):
            raise ValueError(
                "PixelCNNPlusPlus.initialize: the weights are not normalised (weight_norm=False)"
            )
        handles = [layer.register_forward_hook(set_scale) for layer in layers]
        try:
            self(x, context)
        finally:
            for handle in handles:
                handle.remove()

    def _convolutions(self) -> Iterator[nn.Module]:
        """The convolutions of what depends on the pixels."""
        yield self.last
        for module in self.modules():
            if isinstance(module, CausalConv2d | CausalConvTranspose2d):
                yield module.conv
            elif isinstance(module, _GatedResnet) and module.skip is not None:
                yield module.skip


# The stream of the rows above, and that of the pixels above and to the left.
Streams = tuple[Tensor, Tensor]


class _Start(nn.Module):
    """The streams' first features, which see neither the pixel nor, in the first, its row."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.above = CausalConv2d(in_channels, channels, (2, 3), last=(-1, 1))
        self.row_above = CausalConv2d(in_channels, channels, (1, 3), last=(-1, 1))
        self.left = CausalConv2d(in_channels, channels, (2, 1), last=(0, -1))

    def forward(self, x: Tensor) -> Streams:
        return self.above(x), self.row_above(x) + self.left(x)


class _Down(nn.Module):
    """Both streams at half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.above = CausalConv2d(channels, channels, (2, 3), last=(0, 1), stride=2)
        self.left = CausalConv2d(channels, channels, (2, 2), stride=2)

    def forward(self, streams: Streams) -> Streams:
        return self.above(streams[0]), self.left(streams[1])


class _Up(nn.Module):
    """Both streams at twice the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.above = CausalConvTranspose2d(channels, channels, (2, 3), crop=1)
        self.left = CausalConvTranspose2d(channels, channels, (2, 2))

    def forward(self, streams: Streams) -> Streams:
        return self.above(streams[0]), self.left(streams[1])


class _Block(nn.Module):
    """A gated residual block of each stream."""

    def __init__(self, channels: int, context_channels: int, dropout: float, *, back: bool) -> None:
        super().__init__()
        sizes = context_channels, dropout
        self.above = _GatedResnet(channels, (2, 3), 1, channels if back else 0, *sizes)
        self.left = _GatedResnet(channels, (2, 2), 0, (2 if back else 1) * channels, *sizes)

    def forward(self, streams: Streams, kept: Streams | None, context: Tensor | None) -> Streams:
        above = self.above(streams[0], None if kept is None else kept[0], context)
        side = above if kept is None else torch.cat([above, kept[1]], 1)
        return above, self.left(streams[1], side, context)


class _GatedResnet(nn.Module):
    """The equation of the class."""

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        right: int,
        side_channels: int,
        context_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.first = CausalConv2d(2 * channels, channels, kernel_size, last=(0, right))
        self.skip = nn.Conv2d(2 * side_channels, channels, 1) if side_channels else None
        self.dropout = nn.Dropout(dropout)
        self.second = CausalConv2d(2 * channels, 2 * channels, kernel_size, last=(0, right))
        with torch.no_grad():
            for parameter in self.second.parameters():
                parameter.mul_(_RESIDUAL_SCALE)
        self.context = (
            nn.Conv2d(context_channels, 2 * channels, 1, bias=False) if context_channels else None
        )

    def forward(self, x: Tensor, side: Tensor | None, context: Tensor | None) -> Tensor:
        y = self.first(_concat_elu(x))
        if self.skip is not None and side is not None:
            y = y + self.skip(_concat_elu(side))
        y = self.second(self.dropout(_concat_elu(y)))
        if self.context is not None:
            y = y + self.context(context)
        a, b = y.chunk(2, 1)
        return x + a * torch.sigmoid(b)


def _output_dim(layer: nn.Module) -> int:
    """The dimension of a weight that numbers the layer's outputs."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


def _concat_elu(x: Tensor) -> Tensor:
    return functional.elu(torch.cat([x, -x], 1))
