from gencore.train.checkpoint import load_checkpoint, save_checkpoint
from gencore.train.experiment import (
    BatchSource,
    Diverged,
    Experiment,
    Stateful,
    StateObject,
)
from gencore.train.loop import fit, load_experiment
from gencore.train.recipe import ImageRecipe, Recipe
from gencore.train.run_folder import RunFolder, recipe_from_config
from gencore.train.signals import Interrupted

__all__ = [
    "BatchSource",
    "Diverged",
    "Experiment",
    "ImageRecipe",
    "Interrupted",
    "Recipe",
    "RunFolder",
    "StateObject",
    "Stateful",
    "fit",
    "load_checkpoint",
    "load_experiment",
    "recipe_from_config",
    "save_checkpoint",
]
