"""What lies where in a run's folder, and who may write there."""

import dataclasses
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch

from gencore import __version__
from gencore.atomic import cannot_write, leftovers, remove_leftovers, replacing
from gencore.option_types import from_plain, to_plain
from gencore.train.claim import CLAIM_NAME, Claim
from gencore.train.recipe import Recipe

__all__ = ["RunFolder", "defaults_of", "describe", "recipe_from_config", "where_data_lie"]

R = TypeVar("R", bound=Recipe)

_KEPT = r"checkpoint-\d{8,}\.safetensors"
# What a run writes beside its config, by name: these files of a run's folder are the run's.
_RESULTS = rf"log\.csv|checkpoint\.safetensors|{_KEPT}|samples\.png|loss\.png|metrics\.json"
_FILES = rf"config\.json|figures|{_RESULTS}"
EVENTS_SUFFIX = ".gencore"
"""The end of the names of the files for TensorBoard, by which a run knows its own."""


class RunFolder:
    """The files of one run.

    A run starts only in a folder that is new, empty or a run's own, which is one whose `config`
    names a recipe. There it replaces the files below and in `figures` those that it drew, which
    `config` lists; whatever else is in the folder stays as it is.

    Attributes:
        config: recipe name, its fields, the preset that they started from, settings of `fit` that a
            resumed run takes up, what `Recipe.describe_data` says, versions, drawn figures, which
            of `Recipe.tunable` changed at which step, and the run's identity at other loggers with
            the last step that they have seen (JSON).
        log: one row of scalars each `log_every` steps (CSV).
        tensorboard: the same for TensorBoard (folder).
        checkpoint: the latest state of the run.
        samples: the figure of `Experiment.save_figure` (PNG).
        figures: those of `Experiment.save_figures`, if there are any (folder).
        loss_plot: the columns of `log` against the step (PNG).
        metrics: what `Experiment.evaluate` measured (JSON).
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise ValueError("the run's folder has the empty name; expected a path")
        self.path = Path(path)
        self._claim: Claim | None = None
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

    def kept_steps(self) -> list[int]:
        """The steps of the checkpoints that later ones do not replace, in ascending order."""
        files = self.path.iterdir() if self.path.is_dir() else ()
        names = (file.name for file in files if re.fullmatch(_KEPT, file.name))
        return sorted(int(name[len("checkpoint-") : -len(".safetensors")]) for name in names)

    def source(self, step: int | None = None) -> Path:
        """The checkpoint to load: the latest, or the one of `step` that later ones leave."""
        return self.checkpoint if step is None else self.kept_checkpoint(step)

    def claim(self, *, resume: bool, overwrite: bool, step: int | None = None) -> None:
        """Keeps other runs out until `release`, and refuses a folder whose contents do not fit what
        is about to be done; no file of an earlier run changes.

        Args:
            resume: a run goes on, from `source(step)`.
            overwrite: a run may be replaced.
            step: of a kept checkpoint.

        Raises:
            ValueError: both `resume` and `overwrite`.
            FileNotFoundError: `resume`, and there is no run, or no such checkpoint.
            FileExistsError: neither, and there is a run; or the folder is in use by another run, or
                holds files and no run.
            OSError: the folder cannot be written.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite exclude each other: choose one")
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is no folder: name another one (--out)")
        # Once without the claim, so that a folder that is refused stays as it is, and once with it,
        # for what another run did in between.
        self._check(resume, overwrite, step)
        try:
            self._claim = Claim(self.path)
        except OSError as error:
            if not error.errno:  # it is in use
                raise
            raise self._cannot_write(error) from error
        try:
            self._check(resume, overwrite, step)
        except Exception:
            self.release()
            raise

    def release(self) -> None:
        """Lets other runs in; a folder that was made for the claim and stayed empty goes away."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def open(
        self,
        recipe: Recipe,
        settings: Mapping[str, int | list[str]],
        data: Mapping[str, Any],
        *,
        fresh: bool,
        start: int = 0,
    ) -> None:
        """Writes the config and removes what killed processes left, and if `fresh` the files of an
        earlier run. The folder must be claimed.

        Args:
            recipe: what runs.
            settings: of `fit`.
            data: what `Recipe.describe_data` says.
            fresh: a new run starts here.
            start: the step from which a run goes on; checkpoints of later ones are removed.

        Raises:
            OSError: the folder cannot be written, in one sentence.
        """
        config = {
            **describe(recipe),
            "preset": recipe.preset_name,
            "settings": dict(settings),
            "data": dict(data),
            "versions": {"gencore": __version__, "torch": torch.__version__},
            "figures": [],
            "changes": [],
            "logger_runs": {},
        }
        if not fresh:
            before = self.read_config()
            config["figures"] = before["figures"]
            config["preset"] = recipe.preset_name or before["preset"]
            old, new = {**defaults_of(type(recipe)), **before["fields"]}, config["fields"]
            names = [name for name in sorted(recipe.tuned()) if old.get(name) != new[name]]
            changes = {name: [old.get(name), new[name]] for name in names}
            change = [{"step": start, **changes}] if changes else []
            config["changes"] = before["changes"] + change
            # With other settings rows differ from those that the loggers have.
            config["logger_runs"] = {} if changes else before["logger_runs"]
        try:
            remove_leftovers(self.path, _FILES)
            if fresh:
                self._remove_run()
            for step in self.kept_steps():
                if step > start:  # of what the run was before it went back
                    self.kept_checkpoint(step).unlink()
            self.write_json(self.config, config)
        except OSError as error:
            raise self._cannot_write(error) from error

    def draw_figures(self, draw: Callable[[Path], None]) -> None:
        """Puts what `draw` writes into a folder, which it makes, among the figures."""
        folder = self.path / f".{self.figures.name}.{os.getpid()}.tmp"
        try:
            draw(folder)
            if folder.is_dir():
                self._take_figures(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _take_figures(self, folder: Path) -> None:
        drawn = sorted(path.name for path in folder.iterdir())
        try:
            # Their names first: a figure without its name would stay for ever.
            config = self.read_config()
            config["figures"] = sorted({*config["figures"], *drawn})
            self.write_json(self.config, config)
            self.figures.mkdir(exist_ok=True)
            for name in drawn:
                (folder / name).replace(self.figures / name)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _check(self, resume: bool, overwrite: bool, step: int | None) -> None:
        if resume:
            if step is not None and not self.kept_checkpoint(step).is_file():
                kept = ", ".join(map(str, self.kept_steps())) or "none"
                raise FileNotFoundError(
                    f"there is no checkpoint of step {step} in {self.path}; kept (keep_every) are "
                    f"those of {kept}"
                )
            if not self.source(step).is_file():
                start = "; start it again without --resume" if self.config.is_file() else ""
                raise FileNotFoundError(
                    f"there is no run to resume in {self.path}: no checkpoint{start}"
                )
            self.read_config()
            return
        names = self._names()
        if self.config.name in names:
            try:
                self.read_config()
            except ValueError:
                pass
            else:
                if overwrite or not any(re.fullmatch(_RESULTS, name) for name in names):
                    return
                raise FileExistsError(
                    f"{self.path} already holds a run: resume it (--resume), replace it "
                    "(--overwrite) or name another folder (--out)"
                )
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise FileExistsError(
                f"{self.path} holds files and no run ({shown}): name a folder that is new or empty "
                "(--out)"
            )

    def _names(self) -> list[str]:
        """What is in the folder, but for claims and what killed processes left."""
        if not self.path.is_dir():
            return []
        ours = {CLAIM_NAME, *(path.name for path in leftovers(self.path, _FILES))}
        return sorted({path.name for path in self.path.iterdir()} - ours)

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
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if not (isinstance(config, dict) and isinstance(config.get("recipe"), str)):
            raise ValueError(f"{self.config} is damaged: it names no recipe")
        if not isinstance(config.get("fields"), dict):
            raise ValueError(f"{self.config} is damaged: it has no fields of the recipe")
        settings = config.setdefault("settings", {})
        if not (isinstance(settings, dict) and all(map(_is_setting, settings.values()))):
            raise ValueError(
                f"{self.config} is damaged: its settings are no table of numbers and lists of names"
            )
        if not isinstance(config.setdefault("data", {}), dict):
            raise ValueError(f"{self.config} is damaged: its description of the data is no table")
        if not isinstance(config.setdefault("preset", None), str | None):
            raise ValueError(f"{self.config} is damaged: its preset is no name")
        runs = config.setdefault("logger_runs", {})
        if not (isinstance(runs, dict) and all(map(_is_logger_run, runs.values()))):
            raise ValueError(f"{self.config} is damaged: its logger_runs are {runs!r}")
        for name, kind in (("figures", str), ("changes", dict)):
            items = config.setdefault(name, [])
            if not (isinstance(items, list) and all(isinstance(item, kind) for item in items)):
                raise ValueError(f"{self.config} is damaged: its {name} are {items!r}")
        return config

    def read_recipe(self, recipe_class: type[R]) -> R:
        """The recipe of the run, of this class.

        Raises:
            FileNotFoundError: the folder holds no run.
            ValueError: the run is another recipe's, or the file is damaged.
        """
        config = self.read_config()
        try:
            return recipe_from_config(recipe_class, config)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.config}: {error}") from error

    def _remove_run(self) -> None:
        for path in self.path.iterdir():
            if re.fullmatch(_RESULTS, path.name):
                path.unlink()
        drawn = self.read_config()["figures"] if self.config.is_file() else []
        for folder, is_ours in (
            (self.figures, drawn.__contains__),
            (self.tensorboard, lambda name: name.endswith(EVENTS_SUFFIX)),
        ):
            if folder.is_symlink() or not folder.is_dir():
                continue
            for path in folder.iterdir():
                if is_ours(path.name):
                    path.unlink()
            with suppress(OSError):  # there are others in it
                folder.rmdir()

    def _cannot_write(self, error: OSError) -> OSError:
        if error.strerror is None:  # a sentence of ours already
            return error
        return cannot_write(f"to the folder {self.path}", error)


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data: {"recipe": name, "fields": {name: value}}.

    Example:
        >>> from gencore.train import ImageRecipe
        >>> class ToyRecipe(ImageRecipe):
        ...     def build(self, fabric, dataset): ...
        >>> describe(ToyRecipe(steps=3, batch_size=8))["fields"]  # doctest: +NORMALIZE_WHITESPACE
        {'steps': 3, 'batch_size': 8, 'seed': 0, 'precision': '32-true', 'data': 'digits',
         'image_size': None, 'background': 255, 'show_data': False}
    """
    fields = {name: to_plain(name, value) for name, value in recipe.fields().items()}
    return {"recipe": recipe.name, "fields": fields}


def defaults_of(recipe_class: type[Recipe]) -> dict[str, Any]:
    """What the fields of a recipe are as plain data where nothing was said, as in a run from before
    they existed."""
    return {
        field.name: to_plain(field.name, field.default)
        for field in dataclasses.fields(recipe_class)
        if field.default is not dataclasses.MISSING
    }


def recipe_from_config(recipe_class: type[R], config: Mapping[str, Any]) -> R:
    """The recipe that `describe` described; data that are not where a relative path leads from
    here are taken from where they lay.

    Raises:
        ValueError: the config is another recipe's, of a version with other fields, or damaged.
    """
    if config["recipe"] != recipe_class.name:
        raise ValueError(f"the run is of the recipe {config['recipe']}, not {recipe_class.name}")
    hints = get_type_hints(recipe_class)
    names = recipe_class.__dataclass_fields__.keys()
    if unknown := sorted(config["fields"].keys() - names):
        raise ValueError(f"the recipe {recipe_class.name} has no field {', '.join(unknown)}")
    fields = {name: from_plain(name, v, hints[name]) for name, v in config["fields"].items()}
    source = config.get("data", {}).get("source")
    given = fields.get("data")
    if isinstance(source, str) and isinstance(given, str):
        fields["data"] = where_data_lie(given, source)
    return recipe_class(**fields)


def where_data_lie(given: str, source: str) -> str:
    """A run's data, named as given to it, or by their absolute path if that leads nowhere here."""
    from gencore.data.images.images import source_path

    return given if source_path(given).exists() else source


def _is_logger_run(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return isinstance(value.get("id"), str) and type(value.get("seen")) is int


def _is_setting(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return type(value) is int and value >= 0
