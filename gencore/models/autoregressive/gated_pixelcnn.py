"""Gated PixelCNN: a vertical and a horizontal stack, without a blind spot."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.outputs import (
    OutputLayers,
    check_kernel_sizes,
    choose_groups,
    choose_likelihood,
)
from gencore.nn import CausalConv2d, ContextMap, MaskedConv2d, PixelInput
from gencore.nn.likelihoods import PixelLikelihood
from gencore.sizes import check_positive

__all__ = ["GatedPixelCNN"]


class GatedPixelCNN(AutoregressiveImageModel):
    r"""Gated PixelCNN: features of the rows above, and with them those of the row to the left.

    .. math:: v \leftarrow g(V * v + A c), \quad
              h \leftarrow h + U g(W * h + B\,(V * v) + D c), \quad
              g(a, b) = \tanh(a) \odot \sigma(b)

    The vertical stack v sees all pixels of the rows above within its reach, the horizontal one h
    also those to the left, and both a context c. Two 1×1 convolutions of the last h, each after a
    ReLU, give the parameters. With a context this is the conditional PixelCNN.

    Args:
        image_shape: [C, H, W].
        channels: of v and of h each, a multiple of `channel_groups`.
        num_layers: layers of both stacks.
        levels: L of the levels 0 … L − 1: 256 by default, or those of the likelihood.
        kernel_size: k, odd and at least 3: V has (k + 1)/2 rows of k, W as many pixels to the left.
        first_kernel_size: that of the first layer, which sees neither the row nor the pixel itself.
        output_channels: between the last two convolutions; 2·channels by default.
        likelihood: of a pixel given the parameters; `Categorical` by default.
        channel_groups: C where a channel sees those of its own pixel before it, as green sees red,
            which is the default for `Categorical`; 1 where it sees earlier pixels alone. It is h
            that is in groups.
        context_channels: K of contexts [N, K] or [N, K, H, W]; 0 for none. A class is a one-hot
            row.
        embedding: learned numbers a level, for levels that have no order, such as codes; by default
            a level is a number from −1 to 1.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, "Conditional image
        generation with PixelCNN decoders", 2016, eqs. (2) and (4), figure 2.

    Example:
        >>> import torch
        >>> from gencore.models import GatedPixelCNN
        >>> model = GatedPixelCNN((1, 8, 8), channels=8, num_layers=2, levels=2)
        >>> model.log_prob(torch.randint(2, (5, 1, 8, 8))).shape
        torch.Size([5])
        >>> of_class = GatedPixelCNN((1, 8, 8), channels=8, num_layers=2, context_channels=10)
        >>> of_class.log_prob(torch.randint(256, (2, 1, 8, 8)), torch.eye(10)[[3, 7]]).shape
        torch.Size([2])
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
        embedding: int | None = None,
    ) -> None:
        likelihood = choose_likelihood("GatedPixelCNN", levels, likelihood)
        width = 2 * channels if output_channels is None else output_channels
        groups = choose_groups(
            "GatedPixelCNN",
            image_shape[0],
            likelihood,
            channel_groups,
            channels=channels,
            output_channels=width,
        )
        super().__init__(image_shape, likelihood, channel_groups=groups)
        check_positive("GatedPixelCNN", num_layers=num_layers)
        check_kernel_sizes(
            "GatedPixelCNN", 3, kernel_size=kernel_size, first_kernel_size=first_kernel_size
        )
        colours, *sides = self.image_shape
        self.context = ContextMap("GatedPixelCNN", context_channels, (sides[0], sides[1]))
        self.input = PixelInput(colours, likelihood.levels, embedding=embedding)
        self.layers = nn.ModuleList(
            _GatedLayer(
                channels if number else self.input.out_channels,
                channels,
                kernel_size if number else first_kernel_size,
                groups,
                context_channels,
                is_first=not number,
                is_last=number == num_layers - 1,
            )
            for number in range(num_layers)
        )
        self.outputs = OutputLayers(channels, width, likelihood.num_parameters(colours), groups)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = self.context(context)
        v = h = self.input(x)
        for layer in self.layers:
            v, h = layer(v, h, context)
        parameters: Tensor = self.outputs(h)
        return parameters


class _GatedLayer(nn.Module):
    """Figure 2 of the paper.

    The first layer looks at the rows above and to the left alone, so that the features of a pixel
    never have to be moved; it has no residual. Nothing reads the vertical gate of the last one.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        groups: int,
        context_channels: int,
        *,
        is_first: bool,
        is_last: bool,
    ) -> None:
        super().__init__()
        reach = kernel_size // 2
        self.is_first = is_first
        self.is_last = is_last
        rows, last = (reach, -1) if is_first else (reach + 1, 0)

        def gate(make: Callable[[int], nn.Module]) -> _GateInputs:
            return _GateInputs(make, channels, in_groups=groups > 1)

        self.vertical = gate(
            lambda width: CausalConv2d(in_channels, width, (rows, kernel_size), last=(last, reach))
        )
        self.horizontal = gate(
            lambda width: _RowConv2d(in_channels, width, reach, groups, sees_itself=not is_first)
        )
        # The link starts at what becomes the vertical gate.
        self.links = nn.ModuleList(gate(partial(_conv1x1, width)) for width in self.vertical.widths)
        # Of the horizontal gate, and of the vertical one.
        self.contexts = nn.ModuleList(
            gate(partial(_conv1x1, context_channels))
            for _ in range((1 if is_last else 2) if context_channels else 0)
        )
        self.out = MaskedConv2d(channels, channels, 1, mask="B", channel_groups=groups)

    def forward(self, v: Tensor, h: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        vertical, horizontal = self.vertical(v), self.horizontal(h)
        for link, part in zip(self.links, vertical, strict=True):
            horizontal = _add(horizontal, link(part))
        if self.contexts:
            horizontal = _add(horizontal, self.contexts[0](context))
        y = self.out(_gate(horizontal))
        h = y if self.is_first else h + y
        if self.is_last:
            return v, h
        if self.contexts:
            vertical = _add(vertical, self.contexts[1](context))
        return _gate(vertical), h


def _conv1x1(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


class _GateInputs(nn.Module):
    """What a gate is made of: one tensor that has both halves; or two tensors, where channels are
    in groups, which stay blocks so."""

    def __init__(self, make: Callable[[int], nn.Module], channels: int, *, in_groups: bool) -> None:
        super().__init__()
        self.widths = [channels, channels] if in_groups else [2 * channels]
        self.layers = nn.ModuleList(map(make, self.widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.layers]


def _add(one: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _gate(parts: list[Tensor]) -> Tensor:
    """Equation (2)."""
    a, b = parts if len(parts) == 2 else parts[0].chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class _RowConv2d(nn.Module):
    """A convolution over the pixels to the left, and over the pixel itself with mask A or B."""

    def __init__(
        self, in_channels: int, out_channels: int, reach: int, groups: int, *, sees_itself: bool
    ) -> None:
        super().__init__()
        if groups > 1 or not sees_itself:
            self.left = CausalConv2d(in_channels, out_channels, (1, reach), last=(0, -1))
        else:
            self.left = CausalConv2d(in_channels, out_channels, (1, reach + 1))
        self.here = (
            MaskedConv2d(
                in_channels,
                out_channels,
                1,
                mask="B" if sees_itself else "A",
                channel_groups=groups,
                bias=False,
            )
            if groups > 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.left(x)
        return y if self.here is None else y + self.here(x)
