"""When a network grows: the level and its share by how many images have been seen."""

from typing import NamedTuple

from gencore.ops._support.checks import index
from gencore.sizes import check_positive

__all__ = ["Growth", "GrowthSchedule"]


class Growth(NamedTuple):
    """A state of growth, the arguments of :class:`ProgressiveGenerator`."""

    level: int
    """The finest level that there is."""
    alpha: float
    """The share of that level in the output; the rest is of the level before it."""


class GrowthSchedule:
    """Level 0 is trained, then each next level is faded in and trained.

    A phase of `phase_images` stands between any two changes: the level is stable in one phase, and
    in the next one α of the next level rises from 0 to 1 in proportion to the images. The last
    level has no end.

    Args:
        num_levels: of the networks.
        phase_images: images of data in a phase; 800,000 in the source.

    Raises:
        ValueError: for numbers that are not positive.

    References:
        Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs for improved quality,
        stability, and variation", 2018, appendix A.1.

    Example:
        >>> from gencore.nn import GrowthSchedule
        >>> schedule = GrowthSchedule(num_levels=3, phase_images=100)
        >>> schedule(50), schedule(125), schedule(10_000)
        (Growth(level=0, alpha=1.0), Growth(level=1, alpha=0.25), Growth(level=2, alpha=1.0))
    """

    def __init__(self, num_levels: int, phase_images: int = 800_000) -> None:
        check_positive("GrowthSchedule", num_levels=num_levels, phase_images=phase_images)
        self.num_levels, self.phase_images = num_levels, phase_images

    def __call__(self, num_images: int) -> Growth:
        """The growth after this many images."""
        phase, images = divmod(index("GrowthSchedule", "num_images", num_images), self.phase_images)
        level = (phase + 1) // 2
        if level >= self.num_levels:
            return Growth(self.num_levels - 1, 1.0)
        return Growth(level, images / self.phase_images if phase % 2 else 1.0)
