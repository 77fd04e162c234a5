"""Regions of a feature map that a network transforms, one around every position."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.ops import anchor_warp
from gencore.sizes import check_positive

__all__ = ["SpatialTransformerRegions"]


class SpatialTransformerRegions(nn.Module):
    """A descriptor of an image region around every position of a feature map.

    A network of two convolutions regresses an affine map A of each position. It is applied to the
    3 × 3 box around the position (:func:`gencore.ops.anchor_warp`), and a 3 × 3 filter makes the
    region's descriptor of the nine samples. At first every A is a scaling by 2, so that the layer
    is the filter's convolution with a dilation of 2.

    Args:
        channels: C of the map.
        out_channels: of a descriptor; C if ``None``.
        hidden: channels of the localisation network between its convolutions; C if ``None``.

    Attributes:
        localisation: the network of A; its last convolution starts with a weight of zero.
        filter: weight and bias of the 3 × 3 filter, a convolution that is given patches.

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.3;
        Pedersoli, Lucas, Schmid and Verbeek, "Areas of attention for image captioning", 2017.

    Example:
        >>> import torch
        >>> from gencore.nn import SpatialTransformerRegions
        >>> regions = SpatialTransformerRegions(8, 16)
        >>> regions(torch.zeros(5, 8, 6, 7)).shape
        torch.Size([5, 16, 6, 7])
        >>> regions.transforms(torch.zeros(5, 8, 6, 7))[0, 0, 0]
        tensor([[2., 0., 0.],
                [0., 2., 0.]], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self, channels: int, out_channels: int | None = None, *, hidden: int | None = None
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        hidden = channels if hidden is None else hidden
        check_positive(
            "SpatialTransformerRegions", channels=channels, out_channels=out_channels, hidden=hidden
        )
        last = nn.Conv2d(hidden, 6, 3, padding=1)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(2 * torch.eye(2, 3).flatten())  # type: ignore[union-attr]
        self.localisation = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), last
        )
        self.filter = nn.Conv2d(channels, out_channels, 3)

    def transforms(self, features: Tensor) -> Tensor:
        """A of every position, [N, C, H, W] → [N, H, W, 2, 3]."""
        entries: Tensor = self.localisation(features)
        return entries.permute(0, 2, 3, 1).unflatten(-1, (2, 3))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] → descriptors [N, out_channels, H, W]."""
        patches = anchor_warp(features, self.transforms(features))
        # As the patches lie in memory: a point's channels are beside each other.
        points = patches.permute(0, 2, 3, 1, 4, 5).flatten(1, 3)
        weight = self.filter.weight.permute(0, 2, 3, 1).flatten(1)[..., None, None]
        return functional.conv2d(points, weight, self.filter.bias)
