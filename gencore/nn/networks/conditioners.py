"""Convolutional networks that say how the moving part of a coupling is scaled and shifted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencore.nn.context import check_context
from gencore.nn.parametrized import weight_norm
from gencore.nn.transforms.actnorm import ActNorm
from gencore.ops import conv_network
from gencore.ops.conv_network import channels_last

__all__ = ["ConvConditioner", "ResidualConditioner"]


class ConvConditioner(nn.Module):
    """The network of Glow's couplings: convolutions 3×3, 1×1 and 3×3, the last one zero at first.

    The hidden convolutions are followed by `ActNorm` and ReLU. A context [N, C] shifts the channels
    of the first one.

    Args:
        in_channels: of the images [N, C, H, W].
        hidden_channels: of both hidden layers.
        out_channels: of the result [N, C', H, W].
        context_size: C of contexts [N, C]; 0 for none, and contexts are then ignored.
        pixel_context: contexts are [N, C, H, W], one a pixel, and join the images.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, §5.

    Example:
        >>> import torch
        >>> from gencore.nn import ConvConditioner
        >>> ConvConditioner(2, 16, 4)(torch.ones(1, 2, 1, 1)).flatten().tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        context_size: int = 0,
        pixel_context: bool = False,
    ) -> None:
        super().__init__()
        self.pixel_channels = context_size if pixel_context else 0
        self.first = ActNormConv2d(in_channels + self.pixel_channels, hidden_channels, 3)
        self.middle = ActNormConv2d(hidden_channels, hidden_channels, 1)
        self.last = zero_(nn.Conv2d(hidden_channels, out_channels, 3, padding=1))
        self.context = _context_layer(0 if pixel_context else context_size, hidden_channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        term = _context_term("ConvConditioner", self.context, x, context)
        x = _with_pixels("ConvConditioner", self.pixel_channels, x, context, self.last.weight)
        if self.middle.norm.awaits_data():  # the last one to be set, and so both
            h = self.first.initialize(x)
            self.middle.initialize(F.relu(h if term is None else h + term[:, :, None, None]))
        first, middle = self.first.folded(), self.middle.folded()
        assert self.last.bias is not None
        layers = first, middle, (self.last.weight, self.last.bias)
        weights, biases = zip(*layers, strict=True)
        return conv_network(x, weights, biases, context_term=term)


class ActNormConv2d(nn.Module):
    """The weights of a convolution followed by `ActNorm`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, kernel_size, kernel_size).normal_(std=0.05)
        )
        self.norm = ActNorm(out_channels)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The weight and the bias of one convolution that does both: a pass less."""
        scale = self.norm.log_scale.exp()[:, None, None, None]
        return self.weight * scale, self.norm.bias

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Set the normalisation from the first batch, and return what comes out then."""
        self.norm.initialize(F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2))
        return conv_network(x, *([tensor] for tensor in self.folded()))


class ResidualConditioner(nn.Module):
    """The network of Real NVP's couplings: weight-normalised residual blocks with skip connections.

    A 3×3 convolution, ``num_blocks`` blocks of BN–ReLU–conv 3×3–BN–ReLU–conv 3×3, and a 1×1
    convolution that is zero at first.

    Args:
        in_channels: of the images [N, C, H, W].
        hidden_channels: of the blocks.
        out_channels: of the result [N, C', H, W].
        num_blocks: residual blocks.
        batch_norm: normalise over the batch, as the paper does. The density of an image then
            depends on its batch in training, and every process uses the statistics of its own part.
        context_size: C of contexts [N, C]; 0 for none, and contexts are then ignored.
        pixel_context: contexts are [N, C, H, W], one a pixel, and join the images.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, §4.1.

    Example:
        >>> import torch
        >>> from gencore.nn import ResidualConditioner
        >>> ResidualConditioner(3, 16, 6)(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 6, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        num_blocks: int = 2,
        batch_norm: bool = True,
        context_size: int = 0,
        pixel_context: bool = False,
    ) -> None:
        super().__init__()
        self.pixel_channels = context_size if pixel_context else 0
        in_channels += self.pixel_channels
        self.first = weight_norm(nn.Conv2d(in_channels, hidden_channels, 3, padding=1))
        self.blocks = nn.ModuleList(
            _residual_block(hidden_channels, batch_norm) for _ in range(num_blocks)
        )
        self.last = zero_(nn.Conv2d(hidden_channels, out_channels, 1))
        self.context = _context_layer(0 if pixel_context else context_size, hidden_channels)
        channels_last_(self)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        term = _context_term("ResidualConditioner", self.context, x, context)
        x = _with_pixels("ResidualConditioner", self.pixel_channels, x, context, self.last.weight)
        x = channels_last(x)
        h = self.first(x)
        if term is not None:
            h = h + term[:, :, None, None]
        for block in self.blocks:
            h = h + block(h)
        return self.last(F.relu(h)).contiguous()


def zero_(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, with weights and biases of zero: a coupling that starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def channels_last_(module: nn.Module) -> None:
    """Lay the kernels of convolutions out as channels-last."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _residual_block(channels: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers += [nn.ReLU(), weight_norm(nn.Conv2d(channels, channels, 3, padding=1))]
    return nn.Sequential(*layers)


def _context_layer(context_size: int, hidden_channels: int) -> nn.Linear | None:
    return nn.Linear(context_size, hidden_channels, bias=False) if context_size else None


def _context_term(
    owner: str, layer: nn.Linear | None, x: Tensor, context: Tensor | None
) -> Tensor | None:
    """What a context adds to the first hidden channels, [N, C], where the network takes one."""
    if layer is None:
        return None
    check_context(owner, context, x.shape[0], layer.in_features, layer.weight)
    assert context is not None
    term: Tensor = layer(context.to(layer.weight.dtype))
    return term


def _with_pixels(
    owner: str, context_size: int, x: Tensor, context: Tensor | None, weight: Tensor
) -> Tensor:
    """Images [N, C, H, W] with the context of each pixel as further channels, if there is one."""
    if not context_size:
        return x
    check_context(owner, context, x.shape[0], (context_size, *x.shape[2:]), weight)
    assert context is not None
    return torch.cat([x, context.to(x.dtype)], 1)
