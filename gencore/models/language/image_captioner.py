"""Captions of pixels: an image's features, its regions, and a captioner of both."""

from typing import get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.language.beams import Beams
from gencore.models.language.captioner import Captioner
from gencore.models.language.names import RegionFeedback, RegionKind
from gencore.models.language.region_captioner import RegionCaptioner
from gencore.models.language.regions import box_regions, cell_boxes, grid_regions, window_boxes
from gencore.nn import SpatialTransformerRegions
from gencore.sizes import check_positive

__all__ = ["ImageCaptioner"]

_GROUPS = 8


class ImageCaptioner(nn.Module):
    """A convolutional network whose last map gives the features φ(I) and the regions, and a
    captioner of these.

    Four 3×3 convolutions, of which two halve the sides, make a map γ(I) of 2·channels channels and
    a fourth of the image's sides; φ(I) is a linear layer of it. The regions are:

    - "none": without regions, a `Captioner`;
    - "grid": the positions of γ(I);
    - "transformer": one around each position, which a network moves, turns and scales
      (`gencore.nn.SpatialTransformerRegions`);
    - "windows": the greatest activations in all windows of 2 and of 3 cells, in place of a
      detector's proposals. Other boxes can be given in a call.

    Args:
        vocabulary_size: V, with the end.
        image_shape: [C, H, W], sides that 4 divides.
        channels: of the first convolutions, a multiple of 8.
        regions: which ones.
        feature_size, embedding_size, hidden_size: as of `Captioner`.
        region_state, feedback: as of `RegionCaptioner`.

    Attributes:
        encoder: γ.
        feature_layer: φ from γ(I).
        captioner: of the features and regions.

    Raises:
        ValueError: a size does not fit, or there are no such regions.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.3, whose
        encoder is VGG16.

    Example:
        >>> import torch
        >>> from gencore.models import ImageCaptioner
        >>> model = ImageCaptioner(20, (3, 32, 32), channels=8)
        >>> images = torch.rand(2, 3, 32, 32)
        >>> model.caption(images, beam_width=3, max_length=8).words.shape
        torch.Size([2, 3, 8])
        >>> model.attention(torch.tensor([[5, 0], [3, 4]]), images).shape
        torch.Size([2, 2, 64])
        >>> model.region_boxes(images).shape
        torch.Size([2, 64, 4])
    """

    captioner: Captioner

    def __init__(
        self,
        vocabulary_size: int,
        image_shape: tuple[int, int, int],
        *,
        channels: int = 32,
        regions: RegionKind = "grid",
        feature_size: int = 128,
        embedding_size: int = 64,
        hidden_size: int = 128,
        region_state: bool = True,
        feedback: RegionFeedback = "marginal",
    ) -> None:
        super().__init__()
        check_choice("ImageCaptioner", "regions", regions, get_args(RegionKind))
        check_positive("ImageCaptioner", channels=channels)
        if channels % _GROUPS or len(image_shape) != 3 or any(s % 4 for s in image_shape[1:]):
            raise ValueError(
                f"ImageCaptioner: channels is {channels}, image_shape is {tuple(image_shape)}; "
                f"expected a multiple of {_GROUPS}, and [C, H, W] with sides that 4 divides"
            )
        self.image_shape, self.regions = tuple(image_shape), regions
        self.grid = image_shape[1] // 4, image_shape[2] // 4
        width = 2 * channels
        self.encoder = nn.Sequential(
            *_convolution(image_shape[0], channels, 1), *_convolution(channels, channels, 2),
            *_convolution(channels, width, 1), *_convolution(width, width, 2),
        )  # fmt: skip
        self.feature_layer = nn.Sequential(
            nn.Flatten(), nn.Linear(width * self.grid[0] * self.grid[1], feature_size), nn.ReLU()
        )
        self.transformer = SpatialTransformerRegions(width) if regions == "transformer" else None
        if regions == "windows":
            self.register_buffer("windows", window_boxes(*self.grid, (2, 3)), persistent=False)
        if regions == "none":
            self.captioner = Captioner(
                vocabulary_size, feature_size=feature_size, embedding_size=embedding_size,
                hidden_size=hidden_size,
            )  # fmt: skip
        else:
            self.captioner = RegionCaptioner(
                vocabulary_size, feature_size=feature_size, embedding_size=embedding_size,
                hidden_size=hidden_size, region_size=width, region_state=region_state,
                feedback=feedback,
            )  # fmt: skip

    def forward(self, captions: Tensor, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """log p(w_t | w_<t, I) of captions [N, T] of images [N, C, H, W] in [0, 1], [N, T]: 0 after
        the end.

        Args:
            captions: int64.
            images: in [0, 1].
            boxes: with regions "windows", others in their place, [N, R, 4] as of `cell_boxes`.
        """
        return self.captioner(captions, *self.encode(images, boxes))

    def encode(self, images: Tensor, boxes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """φ(I), [N, F], and the descriptors of the regions, [N, R, D], or None.

        Raises:
            ValueError: the images have another shape, or boxes are given where there are none.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"ImageCaptioner: images have shape {list(images.shape)}; expected "
                f"[N, {', '.join(map(str, self.image_shape))}]"
            )
        if boxes is not None and self.regions != "windows":
            raise ValueError(
                f'ImageCaptioner: boxes are given, but the regions are "{self.regions}"; expected '
                'regions="windows"'
            )
        activations = self.encoder(2 * images - 1)
        features = self.feature_layer(activations)
        if self.regions == "none":
            return features, None
        if self.regions == "windows":
            where = self.get_buffer("windows") if boxes is None else boxes
            return features, box_regions(activations, where)
        if self.transformer is not None:
            activations = self.transformer(activations).relu()
        return features, grid_regions(activations)

    @torch.no_grad()
    def region_boxes(self, images: Tensor) -> Tensor:
        """Where the regions of images are, [N, R, 4] as of `cell_boxes`: cells of the grid,
        windows, or the smallest boxes around transformed ones, cut at the image's edges.

        Raises:
            ValueError: there are no regions.
        """
        if self.regions == "none":
            raise ValueError('ImageCaptioner: regions is "none", so that there are no boxes')
        if self.regions == "windows":
            return self.get_buffer("windows").expand(len(images), -1, -1)
        cells = cell_boxes(*self.grid).to(images).expand(len(images), -1, -1)
        if self.transformer is None:
            return cells
        # A row of A for an axis: |A| of the anchor's half sides, in cells, and the shift.
        transforms = self.transformer.transforms(self.encoder(2 * images - 1)).flatten(1, 2)
        sides = images.new_tensor([self.grid[1], self.grid[0]])
        centre = (cells[..., :2] + cells[..., 2:]) / 2 + transforms[..., 2] / sides
        reach = 1.5 * transforms[..., :2].abs().sum(-1) / sides
        low, high = (centre - reach).clamp(0, 1), (centre + reach).clamp(0, 1)
        # What left the image whole keeps a sliver, so that every region has an area.
        sliver = 1e-3
        low = torch.minimum(low, 1 - sliver * torch.ones_like(low))
        return torch.cat([low, torch.maximum(high, low + sliver)], -1)

    @torch.no_grad()
    def caption(
        self,
        images: Tensor,
        boxes: Tensor | None = None,
        *,
        beam_width: int = 5,
        max_length: int = 20,
        length_power: float = 0.0,
    ) -> Beams:
        """The most probable captions of images, as of `Captioner.caption`."""
        return self.captioner.caption(
            *self.encode(images, boxes), beam_width=beam_width, max_length=max_length,
            length_power=length_power,
        )  # fmt: skip

    @torch.no_grad()
    def sample(
        self,
        images: Tensor,
        boxes: Tensor | None = None,
        *,
        max_length: int = 20,
        generator: Generator | None = None,
    ) -> Tensor:
        """A caption drawn for each image, int64 [N, max_length]."""
        encoded = self.encode(images, boxes)
        return self.captioner.sample(*encoded, max_length=max_length, generator=generator)

    @torch.no_grad()
    def attention(
        self,
        captions: Tensor,
        images: Tensor,
        boxes: Tensor | None = None,
        *,
        given_word: bool = False,
    ) -> Tensor:
        """Where the captioner looks at each word, [N, T, R], as of `RegionCaptioner.attention`.

        Raises:
            ValueError: there are no regions.
        """
        features, regions = self.encode(images, boxes)
        if regions is None or not isinstance(self.captioner, RegionCaptioner):
            raise ValueError('ImageCaptioner: regions is "none", so that there is no attention')
        return self.captioner.attention(captions, features, regions, given_word=given_word)

    def extra_repr(self) -> str:
        return f"regions={self.regions!r}"


def _convolution(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
        nn.GroupNorm(_GROUPS, out_channels),
        nn.ReLU(),
    )
