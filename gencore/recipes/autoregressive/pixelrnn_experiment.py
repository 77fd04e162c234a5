"""Autoregressive models of images made of LSTMs, by maximum likelihood."""

from gencore.compression import ExactModel, MultiScaleModel
from gencore.models import AutoregressiveImageModel, MultiScalePixelRNN, PixelRNN
from gencore.recipes.autoregressive.pixelrnn import PixelRNNRecipe
from gencore.recipes.autoregressive_images_experiment import AutoregressiveExperiment

__all__ = ["PixelRNNExperiment", "make_model"]


class PixelRNNExperiment(AutoregressiveExperiment):
    """A network of LSTMs in training."""

    recipe: PixelRNNRecipe

    def make_model(self) -> AutoregressiveImageModel:
        channels, height, width = self.image_shape
        return make_model(self.recipe, (channels, height, width), self.classes.context_size)

    def coding_model(self) -> ExactModel | MultiScaleModel:
        """LSTMs are not compiled: they run whole for each value."""
        model = self.model
        return (
            MultiScaleModel(model) if isinstance(model, MultiScalePixelRNN) else ExactModel(model)
        )


def make_model(
    recipe: PixelRNNRecipe, shape: tuple[int, int, int], context_channels: int = 0
) -> AutoregressiveImageModel:
    """The model that the recipe names, for images of `shape` [C, H, W]."""
    if recipe.model == "multiscale":
        return MultiScalePixelRNN(
            shape,
            recipe.channels,
            recipe.num_layers,
            factor=recipe.factor,
            levels=recipe.levels,
            first_kernel_size=recipe.first_kernel_size,
            output_channels=recipe.output_channels,
        )
    return PixelRNN(
        shape,
        recipe.channels,
        recipe.num_layers,
        cell=recipe.model,
        levels=recipe.levels,
        kernel_size=recipe.kernel_size if recipe.model == "row_lstm" else None,
        first_kernel_size=recipe.first_kernel_size,
        output_channels=recipe.output_channels,
        context_channels=context_channels,
    )
