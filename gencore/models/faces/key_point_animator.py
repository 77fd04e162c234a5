"""The generator of images that key points set in motion."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from gencore.models.faces.dense_motion import DenseMotion, DenseMotionNetwork
from gencore.models.faces.key_points import KeyPoints
from gencore.nn.networks.hourglass import Hourglass
from gencore.ops import warp

__all__ = ["Animation", "ImageDecoder", "KeyPointAnimator", "image_distance"]


class Animation(NamedTuple):
    """A picture that looks as the source and is posed as the driving points."""

    image: Tensor
    """V̂: [N, C, H, W]."""
    motion: DenseMotion
    """Of the features that were warped."""


class KeyPointAnimator(nn.Module):
    r"""Features of a source image, warped by the dense motion of key points, and decoded.

    .. math:: f = E(I_s), \qquad T = M(f, \{T_j\}), \qquad \hat V = G(\mathrm{warp}(f, T))

    Positions are in the image's pixels. Where features are r times coarser than the image a
    position p is at (p + ½)/r − ½ of them, also in depth: the D planes of a volume are r pixels
    apart, and the first is in front.

    Args:
        motion: M.
        decoder: G, of warped features and their visibility.
        encoder: E; the image itself if ``None``.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.3 and
        §4.3.5; Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019, §3.3.

    Example:
        >>> import torch
        >>> from gencore.models import DenseMotionNetwork, ImageDecoder, KeyPointAnimator, KeyPoints
        >>> animator = KeyPointAnimator(
        ...     DenseMotionNetwork(2, widths=(8, 8)), ImageDecoder(widths=(8, 8))
        ... )
        >>> points = KeyPoints(torch.full((1, 2, 2), 4.0))
        >>> animator(torch.rand(1, 3, 8, 12), points, points).image.shape
        torch.Size([1, 3, 8, 12])
    """

    def __init__(
        self, motion: DenseMotionNetwork, decoder: nn.Module, encoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.motion, self.decoder = motion, decoder
        self.encoder = nn.Identity() if encoder is None else encoder

    def forward(self, source: Tensor, source_points: KeyPoints, driving: KeyPoints) -> Animation:
        """The source image [N, C, H, W], posed as the driving points."""
        features = self.encoder(source)
        factor = source.shape[-1] / features.shape[-1]
        motion = self.motion(features, _coarser(source_points, factor), _coarser(driving, factor))
        return Animation(self.decoder(warp(features, motion.flow), motion.visibility), motion)


class ImageDecoder(nn.Module):
    r"""G of the first-order model: a warped image where it shows something, and an hourglass's
    invention where it does not.

    .. math:: \hat V = o \, l + (1 - o) \, N(o \, l)

    with the warped image l and its visibility o, so that a new model begins about with the warped
    image itself. The source leaves the network open.

    Args:
        channels: of the images.
        widths: of the hourglass.

    Shape:
        l [N, channels, H, W] in [0, 1] and o [N, 1, H, W] → [N, channels, H, W] in [0, 1].

    Example:
        >>> import torch
        >>> from gencore.models import ImageDecoder
        >>> x = torch.rand(2, 1, 4, 4)
        >>> bool((ImageDecoder(1, widths=(8,))(x, torch.ones(2, 1, 4, 4)) == x).all())
        True
    """

    def __init__(self, channels: int = 3, *, widths: Sequence[int] = (64, 128, 256)) -> None:
        super().__init__()
        self.hourglass = Hourglass(channels, widths)
        self.last = nn.Conv2d(self.hourglass.out_channels, channels, 7, padding=3)

    def forward(self, warped: Tensor, visibility: Tensor) -> Tensor:
        """The mended images."""
        seen = warped * visibility
        invented: Tensor = self.last(self.hourglass(seen)).sigmoid()
        return seen + (1 - visibility) * invented


def image_distance(distance: nn.Module | None, image: Tensor, target: Tensor) -> Tensor:
    """Of images [N, C, H, W] by a module, or the mean absolute difference of pixels: [N]."""
    if distance is None:
        return (image - target).abs().mean((1, 2, 3))
    found: Tensor = distance(image, target)
    return found


def _coarser(points: KeyPoints, factor: float) -> KeyPoints:
    if factor == 1:
        return points
    return points._replace(positions=(points.positions + 0.5) / factor - 0.5)
