"""Features of a map at several depths, for each layer of another network to choose from."""

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["FeatureStack"]


class FeatureStack(nn.Module):
    """A stack of convolutions, which are not masked, and the outputs of all of its layers.

    An autoregressive network that is conditioned on a map m sees m at every pixel, later ones too,
    and remains causal in the image. Where its layer number l is given a convolution of the stack's
    layer number l, as in the thesis, all of its layers may here take from all of the stack's.

    Args:
        in_channels: C of the map.
        channels: F of each layer.
        num_layers: l, as many as the conditioned network has, say.
        kernel_size: odd.

    Attributes:
        out_channels: l·F.

    Raises:
        ValueError: for sizes that are not positive, or an even kernel.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, section 3.4.1.

    Example:
        >>> import torch
        >>> from gencore.nn import FeatureStack
        >>> FeatureStack(3, 8, num_layers=2)(torch.zeros(5, 3, 4, 4)).shape
        torch.Size([5, 16, 4, 4])
    """

    def __init__(
        self, in_channels: int, channels: int, num_layers: int, *, kernel_size: int = 3
    ) -> None:
        super().__init__()
        check_positive(
            "FeatureStack",
            in_channels=in_channels,
            channels=channels,
            num_layers=num_layers,
            kernel_size=kernel_size,
        )
        if kernel_size % 2 == 0:
            raise ValueError(f"FeatureStack: kernel_size is {kernel_size}; expected an odd number")
        self.out_channels = num_layers * channels
        self.layers = nn.ModuleList(
            nn.Conv2d(
                channels if number else in_channels, channels, kernel_size, padding=kernel_size // 2
            )
            for number in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, l·F, H, W] of maps [N, C, H, W]."""
        features = []
        for layer in self.layers:
            x = nn.functional.elu(layer(x))
            features.append(x)
        return torch.cat(features, 1)
