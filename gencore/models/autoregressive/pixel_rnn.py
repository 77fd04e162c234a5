"""PixelRNN: LSTMs over the rows or the diagonals of an image."""

from collections.abc import Callable
from typing import Literal, NoReturn, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod
from gencore.models.autoregressive.outputs import (
    OutputLayers,
    check_kernel_sizes,
    choose_groups,
    choose_likelihood,
)
from gencore.models.autoregressive.pixel_rnn_steps import PixelRNNSteps, draw_by_steps
from gencore.models.autoregressive.sampling import Known
from gencore.nn import ContextMap, DiagonalBiLSTM, MaskedConv2d, PixelInput, RowLSTM
from gencore.nn.likelihoods import PixelLikelihood
from gencore.sizes import check_positive

__all__ = ["LSTMCell", "PixelRNN"]

LSTMCell = Literal["row_lstm", "diagonal_bilstm"]


class PixelRNN(AutoregressiveImageModel):
    """PixelRNN: a masked convolution with mask A, then residual LSTM layers.

    A layer has LSTMs of h channels over an input of 2h, and a 1×1 convolution to 2h, which is added
    to the input. Two 1×1 convolutions give the parameters. With :class:`gencore.nn.DiagonalBiLSTM`
    a pixel sees all before it; with :class:`gencore.nn.RowLSTM` a triangle above it, and rows are
    computed as a whole.

    The paper's diagonal LSTMs have a blind spot. The features of a pixel know those before it, and
    so the last pixel of a row is known to no features of that row. A pixel of the next row, whose
    right LSTM ends in the row above, then misses it, but for those near the right edge. Here the
    image is one column wider while the diagonal LSTMs see it. The features there know all of the
    row, and the right LSTM begins with them.

    Incremental samples come pixel by pixel from states that are kept. They are not compiled.

    Args:
        image_shape: [C, H, W].
        channels: h, a multiple of `channel_groups`.
        num_layers: LSTM layers.
        cell: ``"row_lstm"`` or ``"diagonal_bilstm"``.
        levels: L of the levels 0 … L − 1: 256 by default, or those of the likelihood.
        kernel_size: k of the row LSTM, odd; 3 by default.
        first_kernel_size: of the first convolution, odd.
        output_channels: between the last two convolutions; 2h by default.
        likelihood: of a pixel given the parameters; `Categorical` by default.
        channel_groups: C where a channel sees those of its own pixel before it, as green sees red,
            which is the default for `Categorical`; 1 where it sees earlier pixels alone.
        context_channels: K of contexts [N, K] or [N, K, H, W], added after a 1×1 convolution to the
            gates of each layer; 0 for none. A class is a one-hot row.

    Attributes:
        columns_after: 1 with diagonal LSTMs, for the column that is added.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.

    Example:
        >>> import torch
        >>> from gencore.models import PixelRNN
        >>> model = PixelRNN((3, 8, 8), channels=12, num_layers=2, cell="row_lstm", levels=16)
        >>> model.log_prob(torch.randint(16, (5, 3, 8, 8))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 66,
        num_layers: int = 7,
        *,
        cell: LSTMCell = "diagonal_bilstm",
        levels: int | None = None,
        kernel_size: int | None = None,
        first_kernel_size: int = 7,
        output_channels: int | None = None,
        likelihood: PixelLikelihood | None = None,
        channel_groups: int | None = None,
        context_channels: int = 0,
    ) -> None:
        check_choice("PixelRNN", "cell", cell, get_args(LSTMCell))
        if kernel_size is not None and cell != "row_lstm":
            raise ValueError(f"PixelRNN: kernel_size is {kernel_size}, but cell {cell!r} has none")
        likelihood = choose_likelihood("PixelRNN", levels, likelihood)
        width = 2 * channels if output_channels is None else output_channels
        groups = choose_groups(
            "PixelRNN",
            image_shape[0],
            likelihood,
            channel_groups,
            channels=channels,
            output_channels=width,
        )
        super().__init__(image_shape, likelihood, channel_groups=groups)
        check_positive("PixelRNN", num_layers=num_layers)
        check_kernel_sizes("PixelRNN", 3, first_kernel_size=first_kernel_size)
        self.columns_after = int(cell == "diagonal_bilstm")
        colours, *sides = self.image_shape
        self.context = ContextMap("PixelRNN", context_channels, (sides[0], sides[1]))
        self.input = PixelInput(colours, likelihood.levels)
        self.first = MaskedConv2d(
            colours, 2 * channels, first_kernel_size, mask="A", channel_groups=groups
        )

        def lstm() -> RowLSTM | DiagonalBiLSTM:
            sizes = {"channel_groups": groups, "context_channels": context_channels}
            if cell == "row_lstm":
                return RowLSTM(2 * channels, channels, kernel_size=kernel_size or 3, **sizes)
            return DiagonalBiLSTM(2 * channels, channels, **sizes)

        self.layers = nn.ModuleList(
            ResidualLSTM(lstm(), channels, groups) for _ in range(num_layers)
        )
        self.outputs = OutputLayers(2 * channels, width, likelihood.num_parameters(colours), groups)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = self.context(context)
        features = self.first(functional.pad(self.input(x), (0, self.columns_after)))
        if context is not None:
            context = self.widen(context)
        for layer in self.layers:
            features = layer(features, context)
        parameters: Tensor = self.outputs(features[..., : self.image_shape[2]])
        return parameters

    def widen(self, context: Tensor) -> Tensor:
        """A context's map as wide as the LSTMs see the image: its last column is repeated, so that
        a map of equal columns is like a vector."""
        if not self.columns_after or context.shape[2:] != self.image_shape[1:]:
            return context
        return torch.cat([context, context[..., -1:]], -1)

    def plan(self, num: int, context: Tensor | None = None, *, keep_all: bool = False) -> NoReturn:
        """Raises a ValueError: LSTMs are not compiled."""
        raise ValueError("PixelRNN.plan: LSTMs are not compiled, so that there is no plan of them")

    def draw(
        self,
        method: SamplingMethod,
        images: Known,
        context: Tensor | None,
        uniforms: Tensor,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        if method == "naive":
            super().draw(method, images, context, uniforms, progress)
            return
        features = self.context(context)
        steps = PixelRNNSteps(
            self, len(images.x), None if features is None else self.widen(features)
        )
        draw_by_steps(self, steps, images, uniforms, progress)


class ResidualLSTM(nn.Module):
    """Figure 5 (right) of the paper: LSTMs, a 1×1 convolution and the input."""

    def __init__(self, lstm: RowLSTM | DiagonalBiLSTM, channels: int, groups: int) -> None:
        super().__init__()
        self.lstm = lstm
        self.widen = MaskedConv2d(channels, 2 * channels, 1, mask="B", channel_groups=groups)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        result: Tensor = x + self.widen(self.lstm(x, context))
        return result
