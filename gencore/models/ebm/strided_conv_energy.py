"""Convolutional energies with leaky rectifiers, whose layers are data, and their features."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, leaky_relu

__all__ = ["ConvLayer", "StridedConvEnergy"]


class ConvLayer(NamedTuple):
    """One convolution of a `StridedConvEnergy`, padded by half of its kernel."""

    channels: int
    """Of its output."""
    kernel_size: int
    """An odd number."""
    stride: int = 1
    """Of its output's pixels, in those of its input."""


class StridedConvEnergy(nn.Module):
    r"""An energy of images: convolutions, each with a leaky rectifier, and a linear layer.

    .. math:: h_0 = x, \quad h_l = \mathrm{leaky}(W_l * h_{l-1} + b_l), \quad
              E(x) = w^\top h_L + b

    Args:
        shape: [C, H, W] of an image.
        layers: the convolutions, first to last.
        negative_slope: of the rectifier.

    Shape:
        [N, C, H, W] → [N].

    Raises:
        ValueError: `layers` is empty, or one has an even kernel or a number below 1; on a call with
            images of another shape.

    Example:
        >>> energy = StridedConvEnergy((1, 16, 16), [ConvLayer(8, 5, 2), ConvLayer(16, 5, 2)])
        >>> x = torch.zeros(3, 1, 16, 16)
        >>> energy(x).shape, energy.features(x).shape
        (torch.Size([3]), torch.Size([3, 384]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        layers: Sequence[ConvLayer],
        *,
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(
                f"StridedConvEnergy: shape is {tuple(shape)}; expected [C, H, W] of an image"
            )
        channels, height, width = shape
        if not layers:
            raise ValueError("StridedConvEnergy: layers is empty; expected one convolution or more")
        convolutions = []
        for layer in layers:
            if min(layer) < 1 or layer.kernel_size % 2 == 0:
                raise ValueError(
                    f"StridedConvEnergy: {layer}; expected positive numbers and an odd kernel_size"
                )
            convolutions.append(
                nn.Conv2d(
                    channels, layer.channels, layer.kernel_size, layer.stride,
                    padding=layer.kernel_size // 2,
                )
            )  # fmt: skip
            channels = layer.channels
            height, width = (-(-side // layer.stride) for side in (height, width))
        self.image_shape = tuple(shape)
        self.layers = tuple(layers)
        self.negative_slope = negative_slope
        self.convolutions = nn.ModuleList(convolutions)
        self.head = nn.Linear(channels * height * width, 1)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps h_l [N, C_l, H_l, W_l] of every convolution, after the rectifier."""
        if x.shape[1:] != torch.Size(self.image_shape):
            raise ValueError(
                f"StridedConvEnergy: got images of shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.image_shape))}]"
            )
        maps = []
        for convolution in self.convolutions:
            x = leaky_relu(convolution(x), self.negative_slope)
            maps.append(x)
        return tuple(maps)

    def features(self, x: Tensor, *, layers: Sequence[int] | None = None, side: int = 4) -> Tensor:
        """The maps of the convolutions, each max-pooled to `side` × `side` pixels, side by side.

        Maps that are smaller stay as they are. Of four convolutions with 64, 128, 256 and 512
        channels on images of 64 × 64 these are (64 + 128 + 256 + 512)·16 = 15,360 numbers, and
        14,336 without the first.

        Args:
            x: images [N, C, H, W].
            layers: numbers of the convolutions, from 0; all of them where it is missing.
            side: height and width of the pooled maps.

        Returns:
            [N, Σ C_l·min(side, H_l)·min(side, W_l)].

        Raises:
            ValueError: for no layers, or one that there is not.
        """
        maps = self.feature_maps(x)
        if layers is not None and (not layers or not set(layers) <= set(range(len(maps)))):
            raise ValueError(
                f"StridedConvEnergy.features: layers are {tuple(layers)}; expected one or more "
                f"of 0 to {len(maps) - 1}"
            )
        chosen = maps if layers is None else [maps[layer] for layer in layers]
        pooled = [
            adaptive_max_pool2d(h, (min(side, h.shape[2]), min(side, h.shape[3]))).flatten(1)
            for h in chosen
        ]
        return torch.cat(pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        energies: Tensor = self.head(self.feature_maps(x)[-1].flatten(1)).squeeze(1)
        return energies

    def extra_repr(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"image_shape={self.image_shape}, parameters={count:,}"
