from gencore.train.batches import Batch
from gencore.train.checkpoint import load_checkpoint, save_checkpoint
from gencore.train.experiment import (
    BatchSource,
    Diverged,
    Experiment,
    Stateful,
    StateObject,
)
from gencore.train.field_uses import UsedBy, used_by
from gencore.train.grid import recipe_grid
from gencore.train.image_experiment import ImageExperiment
from gencore.train.loop import fit, load_experiment
from gencore.train.optimisation import Optimisation
from gencore.train.rank_noise import SameNoiseError
from gencore.train.recipe import ImageRecipe, OptimisedRecipe, Recipe
from gencore.train.run_folder import RunFolder, recipe_from_config
from gencore.train.signals import Interrupted

__all__ = [
    "Batch",
    "BatchSource",
    "Diverged",
    "Experiment",
    "ImageExperiment",
    "ImageRecipe",
    "Interrupted",
    "Optimisation",
    "OptimisedRecipe",
    "Recipe",
    "RunFolder",
    "SameNoiseError",
    "StateObject",
    "Stateful",
    "UsedBy",
    "fit",
    "load_checkpoint",
    "load_experiment",
    "recipe_from_config",
    "recipe_grid",
    "save_checkpoint",
    "used_by",
]
