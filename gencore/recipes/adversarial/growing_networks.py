"""Generators and discriminators that grow in training, from coarse images to fine ones."""

import torch
from torch import Tensor, nn

from gencore.nn import (
    Growth,
    GrowthSchedule,
    MinibatchStdDev,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    block_expand,
)

__all__ = [
    "GrowingDiscriminator",
    "GrowingGenerator",
    "GrowingNetworks",
    "ImagesSeen",
    "level_shapes",
]


def level_shapes(image_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of the levels, from the coarsest: sides are halved while they are even and their
    halves have 4 pixels or more.

    Example:
        >>> level_shapes((1, 28, 28))
        [(1, 7, 7), (1, 14, 14), (1, 28, 28)]
    """
    channels, height, width = image_shape
    shapes: list[tuple[int, ...]] = [(channels, height, width)]
    while not (height % 2 or width % 2) and min(height, width) >= 8:
        height, width = height // 2, width // 2
        shapes.append((channels, height, width))
    return shapes[::-1]


class ImagesSeen:
    """How many images a game has seen, which says how far its networks have grown; a checkpoint
    keeps it. A network and its copies have it in common.

    Args:
        schedule: the growth after so many images.

    Example:
        >>> from copy import deepcopy
        >>> from gencore.nn import GrowthSchedule
        >>> seen = ImagesSeen(GrowthSchedule(num_levels=2, phase_images=100))
        >>> seen.number += 150
        >>> deepcopy(seen).growth
        Growth(level=1, alpha=0.5)
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self._schedule, self.number = schedule, 0

    @property
    def growth(self) -> Growth:
        return self._schedule(self.number)

    def __deepcopy__(self, memo: object) -> "ImagesSeen":
        return self

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state_dict: dict[str, int], /) -> None:
        self.number = state_dict["number"]


class GrowingGenerator(nn.Module):
    """Noise [N, L] → images: of the level that has been reached, in training, and in evaluation
    mode of the full size, with pixels repeated.

    Args:
        latent_size: L.
        shapes: of the levels.
        widths: channels of the features at each level, the coarsest first.
        seen: says which level that is.
    """

    def __init__(
        self,
        latent_size: int,
        shapes: list[tuple[int, ...]],
        widths: list[int],
        seen: ImagesSeen,
    ) -> None:
        super().__init__()
        self.network = ProgressiveGenerator(latent_size, shapes[0], widths)
        self._finest, self._seen = len(shapes) - 1, seen

    def forward(self, z: Tensor) -> Tensor:
        growth = self._seen.growth
        images: Tensor = self.network(z, *growth)
        if self.training:
            return images
        return block_expand(images, 2 ** (self._finest - growth.level))


class GrowingDiscriminator(nn.Module):
    """Images of the level that has been reached → logits [N].

    Args:
        shapes, widths, seen: as of `GrowingGenerator`.
        minibatch_std: let it see how much the images of a batch differ.
    """

    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        widths: list[int],
        seen: ImagesSeen,
        *,
        minibatch_std: bool,
    ) -> None:
        super().__init__()
        statistics = None
        if minibatch_std:  # the batch is one set, whatever part of it a process has
            statistics = nn.Sequential(
                nn.Unflatten(0, (1, -1)), MinibatchStdDev(over_processes=True), nn.Flatten(0, 1)
            )
        self.network = ProgressiveDiscriminator(shapes[0], widths, batch_statistics=statistics)
        self._seen = seen

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x, *self._seen.growth)
        return logits

    @torch.no_grad()
    def scale_images(self, x: Tensor) -> Tensor:
        """Data of the full size as the discriminator has to see them now."""
        return self.network.scale_images(x, *self._seen.growth)


class GrowingNetworks:
    """Both players, which grow together.

    Args:
        latent_size: numbers of noise.
        image_shape: [C, H, W] of the full size.
        width: channels of the finest features; they double with each coarser level.
        phase_images: images of data between two changes.
        minibatch_std: as of `GrowingDiscriminator`.

    Raises:
        ValueError: for sides that have no half of 4 pixels or more.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        *,
        width: int,
        phase_images: int,
        minibatch_std: bool,
    ) -> None:
        shapes = level_shapes(image_shape)
        if len(shapes) == 1:
            raise ValueError(
                f"networks that grow need images with even sides of 8 pixels or more, got sides of "
                f"{image_shape[1]} and {image_shape[2]}"
            )
        widths = [width << scale for scale in reversed(range(len(shapes)))]
        self.seen = ImagesSeen(GrowthSchedule(len(shapes), phase_images))
        self.generator = GrowingGenerator(latent_size, shapes, widths, self.seen)
        self.discriminator = GrowingDiscriminator(
            shapes, widths, self.seen, minibatch_std=minibatch_std
        )
