"""What experiments on images share: the test images, a grid of samples below real images."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from gencore.data import ImageDataset
from gencore.train.experiment import Experiment
from gencore.train.recipe import ImageRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ImageExperiment"]


class ImageExperiment(Experiment):
    """A model of images in training.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training images, on torch's meta device where a run only draws samples.

    Attributes:
        recipe, fabric, dataset: as given.
        image_shape: [C, H, W].
    """

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.dataset = dataset
        self.image_shape = dataset.images.shape[1:]

    @cached_property
    def test(self) -> ImageDataset:
        """The test images, in the training images' format."""
        return self.recipe.load_test_data(self.dataset)

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A grid of samples, and with `show_data` a row of training images above it."""
        from gencore.train.figures import save_image_grid

        save_image_grid(samples, path, above=self.shown_data)

    @property
    def shown_data(self) -> Tensor | None:
        """The images that a row above the samples is taken from, if there is one."""
        shown = self.recipe.show_data and not self.dataset.images.is_meta
        return self.dataset.images if shown else None
