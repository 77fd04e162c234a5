"""The networks of DCGAN: strided convolutions from images, and transposed ones to them."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.functional import pad

from gencore.choices import check_choice
from gencore.nn.conditional_weight_norm import ConditionalWeightNorm
from gencore.nn.networks.small_start import start_small
from gencore.sizes import check_positive, check_whole

__all__ = ["DCGANDiscriminator", "DCGANGenerator", "GeneratorNormalization", "PixelRange"]

GeneratorNormalization = Literal["none", "batch", "conditional weight"]
PixelRange = Literal["symmetric", "unit", "free"]

_COARSEST = 4


class DCGANGenerator(nn.Module):
    """From latents to images, by transposed convolutions that double the sides.

    A linear layer makes maps of the coarsest sides. A 4×4 transposed convolution of stride 2 a
    scale halves the channels, and the last one makes the image. ReLU, and batch normalisation if
    there is one, stand before each but the first layer. Weights start as N(0, 0.02²), the factors
    of batch normalisation as N(1, 0.02²), biases as 0. Conditional norms start as 1 at the first
    layer and √8 at the others: of each output's 16 weights a channel 4 meet a feature, and ReLU
    halves the square, so that features start with about the variance of the latents.

    The sides of the images are halved, rounded up, until the smaller one is 3 or 4: 64, 32, 16, 8,
    4, or 28, 14, 7, 4. Where a scale has an odd side, doubling makes one row too many, and the last
    row is cut off.

    Args:
        latent_size: L.
        image_shape: [C, H, W], with sides above 4.
        width: channels of the finest hidden maps; they double with each coarser scale.
        normalization: "batch", as in the source; "none"; or "conditional weight", where every layer
            is a :class:`ConditionalWeightNorm` and the generator takes labels.
        num_classes: K, where the normalisation is conditional.
        pixel_range: "symmetric" for a tanh, with pixels in [−1, 1], as in the source; "unit" for
            (1 + tanh)/2, in [0, 1]; "free" for neither.

    Shape:
        [N, L], and labels int64 [N] where the normalisation is conditional → [N, C, H, W].

    Raises:
        ValueError: for sizes that do not fit, another choice, or classes without a conditional
            normalisation and the reverse; on a call, for latents of another shape.
        TypeError: on a call without the labels that it needs, or with labels that it does not take.

    References:
        Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
        generative adversarial networks", 2016, figure 1 and §4, with the 4×4 filters of its
        program in the place of 5×5. Lucas, "Deep generative models: over-generalisation and
        mode-dropping", 2020, §5.6.1, for the conditional one.

    Example:
        >>> import torch
        >>> from gencore.nn import DCGANGenerator
        >>> generator = DCGANGenerator(20, (1, 28, 28), width=8)
        >>> generator(torch.randn(6, 20)).shape
        torch.Size([6, 1, 28, 28])
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: Sequence[int],
        *,
        width: int = 64,
        normalization: GeneratorNormalization = "batch",
        num_classes: int | None = None,
        pixel_range: PixelRange = "symmetric",
    ) -> None:
        super().__init__()
        owner = "DCGANGenerator"
        check_choice(owner, "normalization", normalization, get_args(GeneratorNormalization))
        check_choice(owner, "pixel_range", pixel_range, get_args(PixelRange))
        check_positive(owner, latent_size=latent_size)
        conditional = normalization == "conditional weight"
        if conditional != (num_classes is not None):
            raise ValueError(
                f"{owner}: num_classes is {num_classes} with normalization {normalization!r}; "
                "expected classes with 'conditional weight' and with nothing else"
            )
        self.sides = _sides(owner, image_shape, width)[::-1]
        self.latent_size, self.pixel_range = latent_size, pixel_range
        self.is_conditional = conditional
        scales = len(self.sides) - 1
        channels = [width * 2 ** (scales - 1 - k) for k in range(scales)]
        coarse = channels[0] * math.prod(self.sides[0])
        self.first: nn.Module = nn.Linear(latent_size, coarse)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            for inputs, outputs in zip(channels, [*channels[1:], image_shape[0]], strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if normalization == "batch" else nn.Identity()
            for width in channels
        )
        start_small(self)
        if num_classes is not None:
            self.first = _conditional(self.first, num_classes, 1.0)
            self.ups = nn.ModuleList(_conditional(up, num_classes, 8**0.5) for up in self.ups)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [N, C, H, W] of latents [N, L]."""
        if z.ndim != 2 or z.shape[1] != self.latent_size:
            raise ValueError(
                f"DCGANGenerator: latents have shape {list(z.shape)}; expected "
                f"[N, {self.latent_size}]"
            )
        if self.is_conditional != (labels is not None):
            raise TypeError(
                "DCGANGenerator: expected labels"
                if self.is_conditional
                else "DCGANGenerator: got labels; expected none without conditional weight norms"
            )
        given = () if labels is None else (labels,)
        h: Tensor = self.first(z, *given).unflatten(1, (-1, *self.sides[0]))
        for up, norm, (height, width) in zip(self.ups, self.norms, self.sides[1:], strict=True):
            h = up(norm(h).relu(), *given)[..., :height, :width]
        if self.pixel_range == "free":
            return h
        return h.tanh() if self.pixel_range == "symmetric" else (1 + h.tanh()) / 2


class DCGANDiscriminator(nn.Module):
    """One logit an image, by convolutions that halve the sides: :class:`DCGANGenerator` reversed.

    4×4 convolutions of stride 2, each with twice the channels of the one before it, leaky ReLU of
    slope 0.2, and a linear layer. Batch normalisation, if there is one, follows each convolution
    but the first. Weights start as the generator's. Where a scale has an odd side, one row of zeros
    is added at its end.

    Its features, `discriminator.features` of `discriminator.num_features` numbers, are what
    :class:`ProjectionDiscriminator` takes for a class-conditional one.

    Args:
        image_shape: [C, H, W], with sides above 4.
        width: channels of the first convolution.
        batch_norm: as in the source. A gradient penalty does not allow it.

    Shape:
        [N, C, H, W] → [N].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        As for :class:`DCGANGenerator`.

    Example:
        >>> import torch
        >>> from gencore.nn import DCGANDiscriminator, ProjectionDiscriminator
        >>> discriminator = DCGANDiscriminator((3, 32, 32), width=8)
        >>> discriminator(torch.zeros(4, 3, 32, 32)).shape
        torch.Size([4])
        >>> features, num_features = discriminator.features, discriminator.num_features
        >>> conditional = ProjectionDiscriminator(features, num_features, num_classes=10)
        >>> conditional(torch.zeros(4, 3, 32, 32), torch.tensor([0, 3, 3, 9])).shape
        torch.Size([4])
    """

    def __init__(
        self, image_shape: Sequence[int], *, width: int = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        sides = _sides("DCGANDiscriminator", image_shape, width)
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for k in range(len(sides) - 1):
            layers += [_EvenSides(), nn.Conv2d(channels, width << k, 4, stride=2, padding=1)]
            channels = width << k
            if batch_norm and k:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(0.2))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.num_features = channels * math.prod(sides[-1])
        self.last = nn.Linear(self.num_features, 1)
        start_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N] of images [N, C, H, W]."""
        logits: Tensor = self.last(self.features(x))
        return logits.squeeze(1)


class _EvenSides(nn.Module):
    """A row or a column of zeros at the end of an odd side."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def _sides(owner: str, image_shape: Sequence[int], width: int) -> list[tuple[int, int]]:
    """The sides at every scale, the images' first, or raise for what does not fit."""
    check_whole(owner, image_shape=list(image_shape))
    check_positive(owner, width=width)
    shape = tuple(image_shape)
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) <= _COARSEST:
        raise ValueError(
            f"{owner}: image_shape is {shape}; expected [C, H, W] with sides above {_COARSEST}"
        )
    sides = [(shape[1], shape[2])]
    while min(sides[-1]) > _COARSEST:
        sides.append((math.ceil(sides[-1][0] / 2), math.ceil(sides[-1][1] / 2)))
    return sides


def _conditional(layer: nn.Module, num_classes: int, norm: float) -> ConditionalWeightNorm:
    conditional = ConditionalWeightNorm(layer, num_classes)
    nn.init.constant_(conditional.gain, norm)
    return conditional
