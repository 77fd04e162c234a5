"""Autoregressive models of images made of causal convolutions, by maximum likelihood."""

import torch

from gencore.models import (
    AutoregressiveImageModel,
    GatedPixelCNN,
    PixelCNN,
    PixelCNNPlusPlus,
)
from gencore.nn import Categorical, DiscretizedLogisticMixture, PixelLikelihood
from gencore.recipes.autoregressive.pixelcnn import PixelCNNRecipe
from gencore.recipes.autoregressive_images_experiment import AutoregressiveExperiment

__all__ = ["PixelCNNExperiment", "make_model"]

# Images that a start from data looks at.
_START = 100


class PixelCNNExperiment(AutoregressiveExperiment):
    """A network of causal convolutions in training."""

    recipe: PixelCNNRecipe

    def make_model(self) -> AutoregressiveImageModel:
        recipe, dataset, device = self.recipe, self.dataset, self.fabric.device
        channels, height, width = self.image_shape
        model = make_model(recipe, (channels, height, width), self.classes.context_size)
        model.to(device)
        if recipe.weight_norm and not dataset.images.is_meta:  # else it comes with the weights
            assert isinstance(model, PixelCNNPlusPlus)
            first = dataset.subset(torch.randperm(len(dataset))[:_START])
            model.initialize(first.images.to(device), self.classes.context(first.labels))
        return model


def make_model(
    recipe: PixelCNNRecipe, shape: tuple[int, int, int], context_channels: int = 0
) -> AutoregressiveImageModel:
    """The model that the recipe names, for images of `shape` [C, H, W]."""
    likelihood = _likelihood(recipe)
    if recipe.model == "pixelcnn++":
        return PixelCNNPlusPlus(
            shape,
            recipe.channels,
            recipe.num_layers or 2,
            _num_scales(recipe, shape),
            likelihood=likelihood,
            dropout=recipe.dropout,
            context_channels=context_channels,
            weight_norm=recipe.weight_norm,
        )
    network = PixelCNN if recipe.model == "pixelcnn" else GatedPixelCNN
    return network(
        shape,
        recipe.channels,
        recipe.num_layers or 6,
        kernel_size=recipe.kernel_size,
        first_kernel_size=recipe.first_kernel_size,
        output_channels=recipe.output_channels,
        likelihood=likelihood,
        context_channels=context_channels,
    )


def _likelihood(recipe: PixelCNNRecipe) -> PixelLikelihood:
    kind = recipe.likelihood
    if kind == "auto":
        kind = "mixture" if recipe.model == "pixelcnn++" else "categorical"
    if kind == "mixture":
        return DiscretizedLogisticMixture(recipe.levels, recipe.num_components)
    return Categorical(recipe.levels)


def _num_scales(recipe: PixelCNNRecipe, shape: tuple[int, int, int]) -> int:
    """The resolutions that the recipe names, or as many as suit images of `shape` [C, H, W]."""
    if recipe.num_scales is not None:
        return recipe.num_scales
    fitting = (n for n in (3, 2) if all(side % 2 ** (n - 1) == 0 for side in shape[1:]))
    return next(fitting, 1)
