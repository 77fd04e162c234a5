"""The motion of every pixel, made of that of key points."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.faces.key_points import (
    KeyPoints,
    blended_flow,
    key_point_flows,
    key_point_heatmaps,
)
from gencore.nn.networks.hourglass import Hourglass
from gencore.ops import warp
from gencore.sizes import check_positive

__all__ = ["DenseMotion", "DenseMotionNetwork"]

# The logit of the visibility that a new network begins about with.
_VISIBLE = 2.0


class DenseMotion(NamedTuple):
    """How the source has to be warped to look as the driving image."""

    flow: Tensor
    """From q to T_G(q): [N, d, *size], in pixels."""
    masks: Tensor
    """W: [N, K + 1, *size], which part follows which key point; the first is what stands still."""
    visibility: Tensor
    """From 0, what the source does not show and has to be invented, to 1: [N, 1, H, W]."""


class DenseMotionNetwork(nn.Module):
    r"""Masks of an hourglass that say which key point every pixel follows.

    1. the source warped by each key point's motion, ℓ_j = warp(F, T_j), and as it is, ℓ_0;
    2. heatmaps h_j of both sets of points, and none for ℓ_0;
    3. masks W = softmax(M({ℓ_j}, {h_j})), the maps of a convolution of side 7;
    4. T_G(q) = Σ_j W_j(q) T_j(q) (:func:`gencore.models.blended_flow`).

    What is visible is a logistic map of the same features, of volumes after their depth has been
    joined to their channels.

    Args:
        num_points: K.
        channels: of the features F that are warped.
        widths: of the hourglass.
        depth: D of volumes [N, C, D, H, W]; ``None`` for images [N, C, H, W].
        variance: σ of the heatmaps, in squared pixels.

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019, §3.2; Yan, "Deep generative models: design, improvements and
        applications", 2022, §4.3.3, §4.3.5 and table 4.10, whose 21 masks of 20 points are with
        what stands still.

    Example:
        >>> import torch
        >>> from gencore.models import DenseMotionNetwork, KeyPoints
        >>> network = DenseMotionNetwork(2, channels=3, widths=(8, 8))
        >>> points = KeyPoints(torch.full((1, 2, 2), 4.0))
        >>> motion = network(torch.rand(1, 3, 8, 12), points, points.shifted(torch.ones(1, 2, 2)))
        >>> motion.flow.shape, motion.masks.shape, motion.visibility.shape
        (torch.Size([1, 2, 8, 12]), torch.Size([1, 3, 8, 12]), torch.Size([1, 1, 8, 12]))
    """

    def __init__(
        self,
        num_points: int,
        *,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        depth: int | None = None,
        variance: float = 10.0,
    ) -> None:
        super().__init__()
        check_positive("DenseMotionNetwork", num_points=num_points, channels=channels)
        if depth is not None:
            check_positive("DenseMotionNetwork", depth=depth)
        self.num_points, self.variance = num_points, variance
        num_dims = 2 if depth is None else 3
        self.hourglass = Hourglass((num_points + 1) * (channels + 1), widths, num_dims=num_dims)
        features = self.hourglass.out_channels
        convolution = nn.Conv2d if depth is None else nn.Conv3d
        self.masks = convolution(features, num_points + 1, 7, padding=3)
        self.visibility = nn.Conv2d(features * (depth or 1), 1, 7, padding=3)
        assert self.visibility.bias is not None
        nn.init.constant_(self.visibility.bias, _VISIBLE)

    def forward(self, features: Tensor, source: KeyPoints, driving: KeyPoints) -> DenseMotion:
        """The motion of features F [N, channels, *size] of the source.

        Raises:
            ValueError: for key points that do not fit.
        """
        size = features.shape[2:]
        flows = key_point_flows(source, driving, size)
        if flows.shape[1] != self.num_points:
            raise ValueError(
                f"DenseMotionNetwork: there are {flows.shape[1]} key points; expected "
                f"{self.num_points}"
            )
        warped = torch.cat([features[:, None], warp(features, flows)], 1)
        maps = key_point_heatmaps(source, driving, size, variance=self.variance)
        maps = torch.cat([torch.zeros_like(maps[:, :1]), maps], 1)
        seen = torch.cat([warped, maps.unsqueeze(2)], 2).flatten(1, 2)
        hidden = self.hourglass(seen)
        masks = self.masks(hidden).softmax(1)
        plane = hidden.flatten(1, 2) if len(size) == 3 else hidden
        return DenseMotion(
            blended_flow(masks, source, driving), masks, self.visibility(plane).sigmoid()
        )
