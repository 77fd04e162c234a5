"""What experiments on images of few levels share: how they are shown, and their baselines."""

from typing import TYPE_CHECKING

from torch import Tensor

from gencore.data import ImageDataset
from gencore.metrics import full_gaussian_bits, independent_gaussian_bits
from gencore.recipes.classes import Classes
from gencore.recipes.levels import LevelsRecipe
from gencore.train import ImageExperiment

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["LevelsExperiment"]

# Beyond this many dimensions the full covariance, and minutes of factorising it, are left out.
_MAX_GAUSSIAN_DIMS = 4096


class LevelsExperiment(ImageExperiment):
    """A model of images with 2^bits levels, which may be conditioned on their classes.

    Attributes:
        classes: those of the training images; none without a `class_conditional` model.
    """

    recipe: LevelsRecipe

    def __init__(
        self,
        recipe: LevelsRecipe,
        fabric: "Fabric",
        dataset: ImageDataset,
        *,
        class_conditional: bool,
    ) -> None:
        super().__init__(recipe, fabric, dataset)
        self.classes = Classes.of(recipe.data, dataset, fabric.device, class_conditional)

    @property
    def shown_data(self) -> Tensor | None:
        shown = super().shown_data
        return None if shown is None else (self.shown(shown) * 255).round().byte()

    def shown(self, levels: Tensor) -> Tensor:
        """Images in [0, 1] of levels."""
        return levels.float() / (self.recipe.levels - 1)

    def gaussian_bits(self) -> dict[str, float]:
        """Bits per dimension of the test images under two Gaussians fitted to the training images:
        of independent pixels and, up to 4,096 dimensions and of at least two images, of all
        covariances."""
        train, test = self.dataset.images, self.test.images
        measures = {"independent_gaussian": independent_gaussian_bits(train, test)}
        if len(train) > 1 and train[0].numel() <= _MAX_GAUSSIAN_DIMS:
            measures["full_gaussian"] = full_gaussian_bits(train, test)
        return measures
