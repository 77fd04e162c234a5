"""What a model offers to the coder: how frequent each level is, in whole numbers."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = [
    "TOTAL_FREQUENCY",
    "ChainModel",
    "Code",
    "CodingModel",
    "LatentModel",
    "LevelFrequencies",
]

TOTAL_FREQUENCY = 2**24
"""The sum of the frequencies of a position's levels."""


class LevelFrequencies(Protocol):
    """Frequencies of the levels of N images, which whoever encodes and whoever decodes computes
    alike: on every machine, for any number of threads, and for any ranges of positions.

    Attributes:
        levels: levels of each value.
        positions: H·W·C, in the order of coding: pixel by pixel in raster order, the channels of a
            pixel in turn.
    """

    levels: int
    positions: int

    def frequencies(self, x: Tensor, begin: int, end: int) -> Tensor:
        """Frequencies of the levels of the positions [begin, end), given those before each.

        Called with consecutive ranges, from 0 on.

        Args:
            x: levels, int64 [N, C, H, W]. Of a range of one position only those before it are read;
                else all are there.
            begin: the first position.
            end: the one after the last.

        Returns:
            int32 [N, end − begin, levels], each row positive and of the sum `TOTAL_FREQUENCY`.
        """


@runtime_checkable
class CodingModel(Protocol):
    """A model of images that opens sessions.

    Its fingerprint in a file holds its number of levels where it has a `likelihood` with `levels`,
    or `levels` of its own.

    Attributes:
        image_shape: [C, H, W].
    """

    image_shape: tuple[int, int, int]

    def coding_session(self, num: int, context: Tensor | None = None) -> LevelFrequencies:
        """A session for `num` images, conditioned on `context` [num, ...] if the model is."""

    def state_dict(self) -> Mapping[str, Any]:
        """The weights, by name."""


class Code(Protocol):
    """Writes levels to a stream, or reads them: what a `ChainModel` calls for each of its parts."""

    def __call__(
        self,
        session: LevelFrequencies,
        shape: tuple[int, ...],
        x: Tensor | None,
        start: Tensor | None = None,
    ) -> Tensor:
        """The levels, int64 [N, C, H, W].

        Args:
            session: what gives the frequencies of the levels.
            shape: [N, C, H, W].
            x: the levels, where they are written; ``None`` where they are read.
            start: int64 [N, C, H, W], −1 at the positions that are coded, the same of all images.
                At the others it has the levels, which are known on both sides. Their frequencies
                are not asked for one by one, so the session has to bear gaps between its ranges.
        """


@runtime_checkable
class ChainModel(Protocol):
    """A model that codes an image in parts, each given those before it: latents, and then pixels.

    Attributes:
        image_shape: [C, H, W].
        levels: of each value of the image.
    """

    image_shape: tuple[int, int, int]
    levels: int

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The images, int64 [num, C, H, W], after `code` was called for each part.

        Args:
            code: writes a part or reads it.
            num: images.
            x: levels [num, C, H, W] where parts are written; ``None`` where they are read.
            context: what the encoder is given beside them, if the model takes it; ``None`` where
                parts are read, as the parts say it.
        """

    def state_dict(self) -> Mapping[str, Any]:
        """The weights, by name."""


@runtime_checkable
class LatentModel(Protocol):
    """A model of images x and discrete latents h, and an encoder q(h | x), for bits-back coding.

    Attributes:
        image_shape: [C, H, W].
        levels: of each value of the image.
        num_bits: about the most bits that the latents of an image have under q.
    """

    image_shape: tuple[int, int, int]
    levels: int
    num_bits: int

    def posterior(self, code: Code, x: Tensor, h: Tensor | None = None) -> Tensor:
        """Latents [N, ...] of images [N, C, H, W], after `code` was called for each part under q;
        h where they are written."""

    def joint(
        self, code: Code, num: int, x: Tensor | None = None, h: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images and latents, after `code` was called for each part under p(x, h); both are given
        where they are written."""

    def state_dict(self) -> Mapping[str, Any]:
        """The weights, by name."""
