"""The command ``gencore``: list, train, sample, evaluate, compress, decompress, info.

torch and the packages of the training extra are imported by the commands that need them, so that
help and ``gencore list`` answer at once.
"""

import argparse
import dataclasses
import io
import json
import os
import shlex
import signal
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gencore import __version__
from gencore.commands.compression import CompressOptions, DecompressOptions, compress, decompress
from gencore.options import (
    UsageError,
    given_options,
    make,
    option_parser,
    option_values,
    parse_options,
    shown_as_options,
    spoken,
)
from gencore.recipes.loaded_run import load_run

if TYPE_CHECKING:
    from gencore.train import Recipe, RunFolder

__all__ = ["main"]

# What the shell reports for a program that a signal ended.
_BY_SIGNAL = 128

_NUM_EVALUATE = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``gencore``; those of this process if None.

    Returns:
        The exit status: 0 done; 1 diverged; 2 not done, for wrong input, a full disk or want of
        memory; 129, 130 or 143 stopped by SIGHUP, Ctrl-C or SIGTERM.

    Example:
        >>> main(["train", "no-such-recipe"])
        2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("GENCORE_DEBUG", "0") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    _wait_briefly()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # it may know ASCII only
    try:
        return _run(words)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BY_SIGNAL + signal.SIGPIPE
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        _complain("interrupted")
        return _BY_SIGNAL + signal.SIGINT
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            if _rank():  # where rank 0 has ended first, which ends this one, that is the cause
                time.sleep(1)
            raise
        if debug:
            traceback.print_exc()
        _complain(f"error: not enough memory: {_one_line(str(error))}", every_rank=True)
        return 2
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, ImportError) and "pip install" not in str(error):
            raise  # a fault of the installation or of ours: its place matters
        if debug:
            traceback.print_exc()
        _complain(f"error: {_one_line(str(error))}")
        return 2


def _wait_briefly() -> None:
    """Let torch's idle threads sleep soon, where neither the user nor an imported torch decided.

    OpenMP's threads spin for milliseconds at every barrier. On cores that other programs use as
    well, training then ran 30 times slower; after 2000 spins the loss is that of the shared cores,
    and on free cores nothing is lost.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"gencore {__version__}")
        return 0
    if words[0] == "--print-completion":
        return _print_completion(words[1:])
    name, *rest = words
    if name not in _COMMANDS:
        raise UsageError(f"unknown command {name!r}; the commands are {', '.join(_COMMANDS)}")
    return _COMMANDS[name][2](rest)


def _list(words: list[str]) -> int:
    """Recipes, data sources and families of systems; the systems of a family; all, for programs."""
    _help_if_asked("list", words)
    from gencore.systems import FAMILIES, SYSTEMS

    if unknown := [word for word in words if word.startswith("-") and word != "--json"]:
        raise UsageError(f"no option {unknown[0]}; the option of gencore list is --json")
    families = [word for word in words if word != "--json"]
    if wrong := [name for name in families if name not in FAMILIES]:
        raise UsageError(f"unknown family {wrong[0]!r}; the families are {', '.join(FAMILIES)}")
    chosen = [s for s in SYSTEMS.values() if not families or s.family in families]
    if "--json" in words:
        objects = [{**dataclasses.asdict(s), "capabilities": s.capabilities} for s in chosen]
        print(json.dumps(objects, indent=2))
    elif families:
        columns = ("id", "system", "source", "recipe")
        _print_table([columns, *((s.id, s.name, s.source, s.recipe or "") for s in chosen)])
    else:
        _list_recipes_and_data()
        counts = ", ".join(f"{name} {sum(s.family == name for s in chosen)}" for name in FAMILIES)
        print(f"\nsystems (gencore list FAMILY): {counts}")
    return 0


def _list_recipes_and_data() -> None:
    from gencore.data.names import IMAGE_SOURCES, VIDEO_SOURCES
    from gencore.recipes import RECIPES

    print("recipes (gencore train RECIPE)")
    _print_table((name, RECIPES.describe(name)) for name in RECIPES)
    print("\nimages (--data)")
    _print_table(IMAGE_SOURCES.items())
    print("\nvideo (load_video)")
    _print_table(VIDEO_SOURCES.items())


def _info(words: list[str]) -> int:
    _no_options("info", words)
    from gencore.info import facts

    _print_table(facts().items(), indent="")
    return 0


@dataclass
class RunOptions:
    """Where and how a run runs; nothing here changes what is computed but for rounding."""

    preset: str | None = None
    """Start from the settings of a preset of the recipe, listed below."""

    config: Path | None = None
    """Read options from a .json or .toml file, such as another run's config.json. They replace
    those of a preset; options on the command line replace both."""

    out: Path = Path("runs")
    """The run's folder."""

    resume: bool = False
    """Continue the run in the folder, with its options but for --devices and --accelerator;
    --steps may be raised, and settings of the optimisation may change."""

    resume_from: int | None = None
    """Go back to the checkpoint of this step, which --keep-every has kept, and continue there;
    those of later steps are removed."""

    overwrite: bool = False
    """Replace the run in the folder."""

    devices: int = 1
    """Processes that share each batch, one per device."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to compute on."""

    log_every: int = 10
    """Steps between two rows of log.csv."""

    checkpoint_every: int = 500
    """Steps between two checkpoints."""

    keep_every: int = 0
    """Steps between two checkpoints that stay beside the latest; 0 keeps none."""

    logger: tuple[Literal["tensorboard", "wandb", "mlflow", "none"], ...] = ("tensorboard",)
    """Where the rows of log.csv go as well: to TensorBoard, Weights & Biases or MLflow, one or
    more."""

    num_samples: int | None = None
    """Samples in samples.png; without it as many as suit the recipe."""

    num_evaluate: int = _NUM_EVALUATE
    """Samples for metrics.json; 0 measures nothing."""


def _train(words: list[str]) -> int:
    from gencore.recipes import RECIPES

    names = ", ".join(RECIPES)
    if words and words[0] in ("-h", "--help"):
        print("usage: gencore train RECIPE [options]\n\nrecipes")
        _print_table((name, RECIPES.describe(name)) for name in RECIPES)
        print("\ngencore train RECIPE --help shows the options.")
        return 0
    if not words or words[0].startswith("-"):
        raise UsageError(f"which recipe? gencore train RECIPE [options]; the recipes are {names}")
    name, *rest = words
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; the recipes are {names}")

    recipe, options = _training_options(RECIPES[name], rest)
    return _fit(recipe, options)


def _training_options(
    recipe_class: "type[Recipe]", words: list[str]
) -> "tuple[Recipe, RunOptions]":
    """The recipe and the run's options. What the command line does not give comes from the file,
    then from the preset, then from the run that goes on, then from the defaults."""
    kinds, epilog = _training_kinds(recipe_class), _presets_help(recipe_class)
    recipe_kind, run_kind = kinds.values()
    prog = f"gencore train {recipe_class.name}"
    given = given_options(kinds, words, prog, epilog)
    if path := given.get("config"):
        from gencore.option_files import read_option_file

        given = {**read_option_file(path, recipe_class.name, recipe_kind, run_kind), **given}
    run: RunOptions = make(run_kind, given, prog)
    stored: dict[str, Any] = {}
    if run.resume or run.resume_from is not None:
        from gencore.train import RunFolder

        folder = RunFolder(run.out)
        settings = folder.read_config()["settings"]
        lists = {name: tuple(v) for name, v in settings.items() if isinstance(v, list)}
        stored = {**folder.read_recipe(recipe_class).fields(), **settings, **lists}
        run = make(run_kind, {**stored, **given}, prog)
    build: Callable[..., Recipe] = recipe_class
    if run.preset is not None:
        build = partial(recipe_class.preset, run.preset)
        stored |= recipe_class.presets.get(run.preset, {})
    return make(recipe_class, {**stored, **given}, prog, build, (RunOptions,)), run


def _training_kinds(recipe_class: "type[Recipe]") -> "dict[str, type]":
    """Heading in the help → options below it."""
    out = ("out", Path, field(default=Path("runs") / recipe_class.name))
    run = dataclasses.make_dataclass("RunOptions", [out], bases=(RunOptions,))
    return {"options of the recipe": recipe_class, "options of the run": run}


def _presets_help(recipe_class: "type[Recipe]") -> str:
    names = recipe_class.presets
    if not names:
        return ""
    rows = []
    for name, fields in names.items():
        # An option stays beside its value.
        options = " ".join(words.replace(" ", "\0") for words in shown_as_options(fields))
        text = f"  {name}:\n{textwrap.indent(_filled(options, 74), ' ' * 6)}"
        rows.append(text.replace("\0", " "))
    return "\n".join(["presets (--preset NAME)", *rows])


def _fit(recipe: "Recipe", options: RunOptions) -> int:
    from gencore.train import Diverged, Interrupted, RunFolder, fit
    from gencore.train.devices import under_torchrun

    choices = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    folder, loggers = choices.pop("out"), choices.pop("logger")
    del choices["preset"], choices["config"]  # the recipe has them
    kinds = (RunOptions, type(recipe))
    try:
        with _quiet_threads():
            fit(recipe, folder, loggers=loggers, **choices)
    except (ValueError, OSError) as error:
        message = str(error)
        if (said := spoken(message, *kinds)) != message:
            raise UsageError(said) from error
        raise
    except Interrupted as interrupt:
        again = f"gencore train {recipe.name} --out {shlex.quote(str(folder))} --resume"
        _complain(f"{interrupt}\ncontinue with: {again}")
        # Rank 0 ends when a process that it started has failed.
        return 0 if _rank() and not under_torchrun() else _BY_SIGNAL + interrupt.number
    except Diverged as error:
        _complain(f"error: {_one_line(spoken(str(error), *kinds))}", every_rank=True)
        _complain(_ways_on(recipe, RunFolder(folder)))
        return 1
    if _rank() == 0:
        print(f"{recipe.name}: {recipe.steps} steps done; everything is in {folder}")
        metrics = RunFolder(folder).metrics
        if options.num_evaluate and metrics.is_file():
            _print_numbers(json.loads(metrics.read_text(encoding="utf-8")))
    return 0


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """In this block no thread prints the traceback of an OSError: TensorBoard's, which writes its
    events, hands it to the main thread as well."""

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, OSError):
            before(arguments)

    before, threading.excepthook = threading.excepthook, hook
    try:
        yield
    finally:
        threading.excepthook = before


def _ways_on(recipe: "Recipe", folder: "RunFolder") -> str:
    """How to go on after a divergence."""
    command = f"gencore train {recipe.name} --out {shlex.quote(str(folder.path))}"
    names = sorted("--" + name.replace("_", "-") for name in recipe.tuned())
    changes = f" and other values of any of {', '.join(names)}" if names else ""
    ways = f"continue with: {command} --resume{changes}"
    if kept := folder.kept_steps():
        ways += f"; or from a kept checkpoint: --resume-from {'|'.join(map(str, kept))}"
    return ways


@dataclass
class SampleOptions:
    """Draws samples from a trained run."""

    run_dir: Path
    """The run's folder."""

    num: int | None = None
    """How many; without it as many as suit the recipe."""

    out: Path | None = None
    """A .png (figure), an .npy (float32 [num, ...]) or, of a model of films, a .gif, .mp4 or .mkv;
    without it RUN_DIR/samples.png."""

    seed: int = 0
    """Of the samples: the same seed gives the same samples."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to compute on."""


def _sample(words: list[str]) -> int:
    options = parse_options(SampleOptions, words, "gencore sample")
    if options.num is not None:
        _check_positive("num", options.num)
    out = options.out or options.run_dir / "samples.png"
    from gencore.data.names import FILM_SUFFIXES

    if out.suffix not in (".png", ".npy", *FILM_SUFFIXES):
        raise UsageError(f"--out must end in .png, .npy, {', '.join(FILM_SUFFIXES)}, got {out}")
    recipe, experiment, step, device = load_run(
        options.run_dir, options.accelerator, with_data=False
    )

    import numpy as np

    from gencore.atomic import replacing
    from gencore.train.loop import seeded

    if not experiment.can("sample"):
        raise ValueError(f"the recipe {recipe.name} makes no samples")
    num = recipe.figure_samples if options.num is None else options.num
    with seeded(options.seed, device) as generator:
        samples = experiment.sample(num, generator)
        if out.suffix in FILM_SUFFIXES and samples.ndim != 5:
            raise UsageError(f"--out is a film, {out}, but the recipe {recipe.name} makes none")
        if out.suffix != ".npy":
            experiment.save_samples(samples, out)
        else:
            with replacing(out) as temporary, temporary.open("wb") as file:
                np.save(file, samples.detach().float().cpu().numpy())
    print(f"{num} samples of step {step}: {out}")
    return 0


@dataclass
class EvaluateOptions:
    """Measures a trained run and writes RUN_DIR/metrics.json."""

    run_dir: Path
    """The run's folder."""

    data: str | None = None
    """Measure with the test part of these images instead of the run's own (see gencore list); the
    numbers are then shown, and metrics.json stays as it is."""

    num: int | None = None
    """Samples to measure with; without it as many as the run measured with (--num-evaluate), or
    1000 if it measured nothing."""

    seed: int = 0
    """Of the samples."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to compute on."""


def _evaluate(words: list[str]) -> int:
    options = parse_options(EvaluateOptions, words, "gencore evaluate")
    if options.num is not None:
        _check_positive("num", options.num)
    recipe, experiment, step, device = load_run(
        options.run_dir, options.accelerator, with_data=True
    )
    if not experiment.can("evaluate"):
        raise ValueError(f"the recipe {recipe.name} has no measures")

    from gencore.train import ImageRecipe, RunFolder
    from gencore.train.loop import seeded

    folder = RunFolder(options.run_dir)
    num = options.num or folder.read_config()["settings"].get("num_evaluate") or _NUM_EVALUATE
    if options.data is not None:
        if not isinstance(recipe, ImageRecipe):
            raise UsageError(f"--data does not suit the recipe {recipe.name}: it needs no images")
        recipe.data = options.data  # where `load_test_data` looks; the training data are loaded
    experiment.prepare(0, num)
    with seeded(options.seed, device):
        measures = experiment.evaluate(num)
    content = {"step": step, "num_samples": num, **measures}
    _print_numbers(content)  # first, as the folder may be read-only
    if options.data is None:
        folder.write_json(folder.metrics, content)
    return 0


_COMMANDS: dict[str, tuple[str, str, Callable[[list[str]], int]]] = {
    "list": ("[FAMILY ...] [--json]", "recipes, data sources and systems", _list),
    "train": ("RECIPE [options]", "train a recipe; its run goes to a folder", _train),
    "sample": ("RUN_DIR [options]", "draw samples from a trained run", _sample),
    "evaluate": ("RUN_DIR [options]", "measure a trained run", _evaluate),
    "compress": ("RUN_DIR IMAGES [options]", "compress images by a run", compress),
    "decompress": ("RUN_DIR FILE [options]", "restore compressed images", decompress),
    "info": ("", "versions, kernels and devices in use", _info),
}

# Of the commands that use a trained run.
_RUN_OPTIONS: dict[str, type] = {
    "sample": SampleOptions,
    "evaluate": EvaluateOptions,
    "compress": CompressOptions,
    "decompress": DecompressOptions,
}


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def _print_completion(words: list[str]) -> int:
    from gencore.completion import Command, completion_script
    from gencore.recipes import RECIPES

    if len(words) != 1:
        raise UsageError("--print-completion needs a shell: bash, zsh or fish")
    commands: dict[str, Any] = {name: Command(argparse.ArgumentParser()) for name in _COMMANDS}
    kinds: dict[str, type]
    for name, kind in _RUN_OPTIONS.items():
        kinds = {"options": kind}
        commands[name] = Command(option_parser(kinds, name), option_values(kinds))
    commands["train"] = {}
    for name, recipe in RECIPES.items():
        kinds = _training_kinds(recipe)
        values = {**option_values(kinds), "data": None, "preset": list(recipe.presets)}
        commands["train"][name] = Command(option_parser(kinds, name), values)
    print(completion_script(words[0], commands))
    return 0


def _help_if_asked(command: str, words: list[str]) -> None:
    if "-h" in words or "--help" in words:
        arguments, text, _ = _COMMANDS[command]
        print(f"usage: {f'gencore {command} {arguments}'.strip()}\n\n{text}")
        raise SystemExit(0)


def _no_options(command: str, words: list[str]) -> None:
    _help_if_asked(command, words)
    if words:
        raise UsageError(f"gencore {command} takes no options, got {words[0]!r}")


def _check_positive(name: str, number: int) -> None:
    if number < 1:
        raise UsageError(f"--{name} must be at least 1, got {number}")


def _help() -> str:
    rows = {f"{name} {arguments}": text for name, (arguments, text, _) in _COMMANDS.items()}
    width = max(map(len, rows))
    commands = "\n".join(f"  {words:<{width}}  {text}" for words, text in rows.items())
    return f"""usage: gencore COMMAND [options]

Generative models on fused C++/CUDA kernels.

commands
{commands}

gencore COMMAND --help shows a command's options. gencore --version shows the
version. gencore --print-completion bash|zsh|fish prints a script with which
that shell completes commands. --debug (or GENCORE_DEBUG=1) adds the traceback
to an error. The status is 0 when all is done, 1 after a divergence, 2 after any
other error, and 129, 130 or 143 after SIGHUP, Ctrl-C or SIGTERM. Example:

  gencore train ebm --data digits --steps 600 --out runs/digits
  gencore sample runs/digits --num 16 --out digits.png"""


def _print_table(rows: Iterable[tuple[str, ...]], indent: str = "  ") -> None:
    """Columns of one width each, but for the last."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = row
        padded = (f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=False))
        print(f"{indent}{''.join(padded)}{last}".rstrip())


def _print_numbers(measures: Mapping[str, float | None]) -> None:
    rows = ((k, "nan" if v is None else f"{v:.6g}") for k, v in measures.items())
    _print_table(rows)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, numpy, torch or a device found no room."""
    names = {kind.__name__ for kind in type(error).__mro__}
    texts = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(
        text in str(error) for text in texts
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _rank() -> int:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def _complain(message: str, *, every_rank: bool = False) -> None:
    rank = _rank()
    with suppress(OSError):  # the terminal may be gone
        if rank == 0:
            print(f"gencore: {message}", file=sys.stderr)
        elif every_rank:
            print(f"gencore: rank {rank}: {message}", file=sys.stderr)
