"""A recipe whose runs compress images of 4×4 pixels and 16 levels."""

from dataclasses import dataclass

from testing.coding import Neighbours
from testing.toy_recipe import ToyExperiment, ToyRecipe


@dataclass(kw_only=True)
class CoderRecipe(ToyRecipe):
    """The toy, with a model of levels that knows the steps of its run."""

    def build(self, fabric, dataset):
        return CoderExperiment(self, fabric)


class CoderExperiment(ToyExperiment):
    def image_model(self):
        return Neighbours((1, 4, 4), 16, spread=self.steps_done)
