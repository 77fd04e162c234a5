"""A trained run, for what uses one."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from gencore.train import Experiment, Recipe

__all__ = ["load_run"]


def load_run(
    run_dir: Path, accelerator: str, *, with_data: bool
) -> "tuple[Recipe, Experiment, int, torch.device]":
    """Recipe, experiment, step and device of the run in a folder (see `load_experiment`)."""
    from gencore.recipes import RECIPES
    from gencore.train import RunFolder, load_experiment

    folder = RunFolder(run_dir)
    config = folder.read_config()
    if config["recipe"] not in RECIPES:
        raise ValueError(
            f"the run in {run_dir} is of the recipe {config['recipe']!r}; "
            f"the recipes here are {', '.join(RECIPES)}"
        )
    recipe = folder.read_recipe(RECIPES[config["recipe"]])
    loaded = load_experiment(run_dir, recipe, accelerator=accelerator, with_data=with_data)
    return recipe, *loaded
