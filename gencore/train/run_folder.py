"""What lies where in a run's folder, and who may write there."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch

from gencore import __version__
from gencore.train.atomic import replacing
from gencore.train.experiment import Recipe

__all__ = ["RunFolder", "defaults_of", "describe", "recipe_from_config"]

R = TypeVar("R", bound=Recipe)


class RunFolder:
    """The files of one run.

    Attributes:
        config: recipe name, its fields, settings of `fit` that a resumed run takes up, what
            `Recipe.describe_data` says, versions (JSON).
        log: one row of scalars each `log_every` steps (CSV).
        tensorboard: the same for TensorBoard (folder).
        checkpoint: the latest state of the run.
        samples: the figure of `Experiment.save_figure` (PNG).
        figures: those of `Experiment.save_figures`, if there are any (folder).
        loss_plot: the columns of `log` against the step (PNG).
        metrics: what `Experiment.evaluate` measured (JSON).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.samples = self.path / "samples.png"
        self.figures = self.path / "figures"
        self.loss_plot = self.path / "loss.png"
        self.metrics = self.path / "metrics.json"

    def kept_checkpoint(self, step: int) -> Path:
        """The file of a checkpoint that later ones do not replace."""
        return self.path / f"checkpoint-{step:08d}.safetensors"

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuses a folder whose contents do not fit what is about to be done; writes nothing.

        Raises:
            ValueError: both `resume` and `overwrite`.
            FileNotFoundError: `resume`, and there is no run.
            FileExistsError: neither, and there is a run.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite exclude each other: choose one")
        if resume and not self.checkpoint.is_file():
            raise FileNotFoundError(f"there is no run to resume in {self.path}: no checkpoint")
        if not (resume or overwrite) and (self.config.exists() or self.checkpoint.exists()):
            raise FileExistsError(
                f"{self.path} already holds a run: resume it (--resume), replace it (--overwrite) "
                "or name another folder (--out)"
            )

    def open(
        self,
        recipe: Recipe,
        settings: Mapping[str, int],
        data: Mapping[str, Any],
        *,
        fresh: bool,
    ) -> None:
        """Makes the folder if need be, writes the config; `fresh` removes an earlier run's files.

        Raises:
            OSError: the folder cannot be written, in one sentence.
        """
        config = {
            **describe(recipe),
            "settings": dict(settings),
            "data": dict(data),
            "versions": {"gencore": __version__, "torch": torch.__version__},
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if fresh:
                self._remove_run()
            self.write_json(self.config, config)
        except OSError as error:
            reason = error.strerror or str(error)
            raise type(error)(f"cannot write to the folder {self.path}: {reason}") from error

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Replaces one of the JSON files atomically; numbers that JSON lacks (nan) become null."""
        plain = {
            k: v if not isinstance(v, float) or math.isfinite(v) else None
            for k, v in content.items()
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")

    def read_config(self) -> dict[str, Any]:
        """The config: {"recipe": name, "fields": {…}, "settings": {…}, "data": {…}, "versions":
        {…}}; the data of a run from before they were described are {}.

        Raises:
            FileNotFoundError: the folder holds no run.
            ValueError: the file is damaged.
        """
        if not self.config.is_file():
            raise FileNotFoundError(f"there is no run in {self.path}: it has no {self.config.name}")
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if not (isinstance(config, dict) and isinstance(config.get("recipe"), str)):
            raise ValueError(f"{self.config} is damaged: it names no recipe")
        if not isinstance(config.get("fields"), dict):
            raise ValueError(f"{self.config} is damaged: it has no fields of the recipe")
        if not isinstance(config.setdefault("settings", {}), dict):
            raise ValueError(f"{self.config} is damaged: its settings are no table of numbers")
        if not isinstance(config.setdefault("data", {}), dict):
            raise ValueError(f"{self.config} is damaged: its description of the data is no table")
        return config

    def _remove_run(self) -> None:
        kept = self.path.glob("checkpoint-*.safetensors")
        for file in (self.log, self.checkpoint, self.samples, self.loss_plot, self.metrics, *kept):
            file.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.figures):
            if folder.is_dir():
                shutil.rmtree(folder)


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data: {"recipe": name, "fields": {name: value}}.

    Example:
        >>> from gencore.train import ImageRecipe
        >>> class ToyRecipe(ImageRecipe):
        ...     def build(self, fabric, dataset): ...
        >>> describe(ToyRecipe(steps=3, batch_size=8))["fields"]
        {'steps': 3, 'batch_size': 8, 'seed': 0, 'data': 'digits', 'background': 255}
    """
    fields = {name: _plain(name, value) for name, value in recipe.fields().items()}
    return {"recipe": recipe.name, "fields": fields}


def defaults_of(recipe_class: type[Recipe]) -> dict[str, Any]:
    """What the fields of a recipe are as plain data where nothing was said, as in a run from before
    they existed."""
    return {
        field.name: _plain(field.name, field.default)
        for field in dataclasses.fields(recipe_class)
        if field.default is not dataclasses.MISSING
    }


def recipe_from_config(recipe_class: type[R], config: Mapping[str, Any]) -> R:
    """The recipe that `describe` described; data that are not where a relative path leads from
    here are taken from where they lay.

    Raises:
        ValueError: the config is another recipe's, or of a version with other fields.
    """
    if config["recipe"] != recipe_class.name:
        raise ValueError(f"the run is of the recipe {config['recipe']}, not {recipe_class.name}")
    hints = get_type_hints(recipe_class)
    names = recipe_class.__dataclass_fields__.keys()
    if unknown := sorted(config["fields"].keys() - names):
        raise ValueError(f"the recipe {recipe_class.name} has no field {', '.join(unknown)}")
    fields = {name: _restored(value, hints[name]) for name, value in config["fields"].items()}
    from gencore.data.images import source_path

    source = config.get("data", {}).get("source")
    given = fields.get("data")
    if isinstance(source, str) and isinstance(given, str) and not source_path(given).exists():
        fields["data"] = source
    return recipe_class(**fields)


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(name, item) for item in value]
    raise TypeError(
        f"recipe field {name} is a {type(value).__name__}; fields are numbers, strings, booleans, "
        "None, paths or tuples of these"
    )


def _restored(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_restored(item, None) for item in value)
    kinds = get_args(hint) or (hint,)
    return Path(value) if isinstance(value, str) and Path in kinds and str not in kinds else value
