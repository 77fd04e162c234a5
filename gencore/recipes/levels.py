"""Recipes whose images may have fewer levels than 256."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gencore.train import ImageRecipe

if TYPE_CHECKING:
    from gencore.data import ImageDataset
    from gencore.data.splits import Split

__all__ = ["LevelsRecipe"]


@dataclass(kw_only=True)
class LevelsRecipe(ImageRecipe):
    """A recipe for models of levels 0 … 2^b − 1, the b highest bits of those of 8-bit images.

    Example:
        >>> from dataclasses import dataclass
        >>> from gencore.recipes.levels import LevelsRecipe
        >>> @dataclass(kw_only=True)
        ... class PixelRecipe(LevelsRecipe):
        ...     '''Fits levels.'''
        ...     def build(self, fabric, dataset): ...
        >>> PixelRecipe(bits=4).load_data().images.max().item()
        15
    """

    bits: int = 8
    """Bits of a level, 1 to 8: images are quantised to their highest bits, and bits per dimension
    are those of the quantised ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.bits <= 8:
            raise ValueError(f"{type(self).__name__}: bits is {self.bits}; expected 1 to 8")

    @property
    def levels(self) -> int:
        """2^b."""
        return 1 << self.bits

    def load_part(self, split: "Split") -> "ImageDataset":
        dataset = super().load_part(split)
        if self.bits == 8:
            return dataset
        return replace(dataset, images=dataset.images >> 8 - self.bits)
