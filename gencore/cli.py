"""The command ``gencore``: list, train, sample, evaluate, info.

torch and the packages of the training extra are imported by the commands that need them, so that
help and ``gencore list`` answer at once.
"""

import dataclasses
import io
import json
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gencore import __version__
from gencore.options import UsageError, parse_options, spoken

if TYPE_CHECKING:
    import torch

    from gencore.train import Experiment, Recipe, RunFolder

__all__ = ["main"]

# What the shell reports for a program that a signal ended.
_BY_SIGNAL = 128

_DATA_SOURCES = {
    "digits": "1,797 handwritten digits, 8x8 grey (comes with scikit-learn)",
    "photos": "6,204 patches of two photographs, 32x32 RGB (comes with scikit-learn)",
    "DIR": "a folder of images; of MNIST's IDX files; or of CIFAR-10's or -100's binary files",
    "FILE": "images [N, H, W], [N, H, W, C] or [N, C, H, W] in an .npy or .npz file",
}


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
    from gencore.recipes import RECIPES

    print("recipes (gencore train RECIPE)")
    _print_table((name, RECIPES.describe(name)) for name in RECIPES)
    print("\nimages (--data)")
    _print_table(_DATA_SOURCES.items())


def _info(words: list[str]) -> int:
    _no_options("info", words)
    from gencore.info import facts

    _print_table(facts().items(), indent="")
    return 0


@dataclass
class RunOptions:
    """Where and how a run runs; nothing here changes what is computed but for rounding."""

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

    num_samples: int | None = None
    """Samples in samples.png; without it as many as suit the recipe."""

    num_evaluate: int = 1000
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

    recipe_class = RECIPES[name]
    recipe, options = _parse_training(recipe_class, rest)
    if options.resume or options.resume_from is not None:
        from gencore.train import RunFolder

        # The run's own options become the defaults, so that they need not be given again.
        folder = RunFolder(options.out)
        config = folder.read_config()
        known = {f.name: config["settings"].get(f.name) for f in dataclasses.fields(RunOptions)}
        settings = {name: value for name, value in known.items() if value is not None}
        stored = folder.read_recipe(recipe_class), RunOptions(**settings)
        recipe, options = _parse_training(recipe_class, rest, stored)
    return _fit(recipe, options)


def _fit(recipe: "Recipe", options: RunOptions) -> int:
    from gencore.train import Diverged, Interrupted, RunFolder, fit
    from gencore.train.devices import under_torchrun

    choices = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    folder = choices.pop("out")
    try:
        with _quiet_threads():
            fit(recipe, folder, **choices)
    except ValueError as error:
        message = spoken(spoken(str(error), RunOptions), type(recipe))
        raise UsageError(message) from error
    except Interrupted as interrupt:
        again = f"gencore train {recipe.name} --out {shlex.quote(str(folder))} --resume"
        _complain(f"{interrupt}\ncontinue with: {again}")
        # Rank 0 ends when a process that it started has failed.
        return 0 if _rank() and not under_torchrun() else _BY_SIGNAL + interrupt.number
    except Diverged as error:
        _complain(f"error: {_one_line(str(error))}", every_rank=True)
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
    names = sorted("--" + name.replace("_", "-") for name in recipe.tunable)
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
    """A .png (figure) or an .npy (float32 [num, ...]); without it RUN_DIR/samples.png."""

    seed: int = 0
    """Of the samples: the same seed gives the same samples."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to compute on."""


def _sample(words: list[str]) -> int:
    options = parse_options(SampleOptions, words, "gencore sample")
    if options.num is not None:
        _check_positive("num", options.num)
    out = options.out or options.run_dir / "samples.png"
    if out.suffix not in (".png", ".npy"):
        raise UsageError(f"--out must end in .png or .npy, got {out}")
    recipe, experiment, step, device = _load_run(
        options.run_dir, options.accelerator, with_data=False
    )

    import numpy as np

    from gencore.train.atomic import replacing
    from gencore.train.loop import seeded

    if not experiment.can("sample"):
        raise ValueError(f"the recipe {recipe.name} makes no samples")
    num = recipe.figure_samples if options.num is None else options.num
    with seeded(options.seed, device) as generator:
        samples = experiment.sample(num, generator)
        if out.suffix == ".png":
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

    num: int = 1000
    """Samples to measure with."""

    seed: int = 0
    """Of the samples."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to compute on."""


def _evaluate(words: list[str]) -> int:
    options = parse_options(EvaluateOptions, words, "gencore evaluate")
    _check_positive("num", options.num)
    recipe, experiment, step, device = _load_run(
        options.run_dir, options.accelerator, with_data=True
    )
    if not experiment.can("evaluate"):
        raise ValueError(f"the recipe {recipe.name} has no measures")
    experiment.prepare(0, options.num)

    from gencore.train import RunFolder
    from gencore.train.loop import seeded

    with seeded(options.seed, device):
        measures = experiment.evaluate(options.num)
    content = {"step": step, "num_samples": options.num, **measures}
    _print_numbers(content)  # first, as the folder may be read-only
    folder = RunFolder(options.run_dir)
    folder.write_json(folder.metrics, content)
    return 0


def _load_run(
    run_dir: Path, accelerator: str, *, with_data: bool
) -> "tuple[Recipe, Experiment, int, torch.device]":
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


_COMMANDS: dict[str, tuple[str, str, Callable[[list[str]], int]]] = {
    "list": ("[FAMILY ...] [--json]", "recipes, data sources and systems", _list),
    "train": ("RECIPE [options]", "train a recipe; its run goes to a folder", _train),
    "sample": ("RUN_DIR [options]", "draw samples from a trained run", _sample),
    "evaluate": ("RUN_DIR [options]", "measure a trained run", _evaluate),
    "info": ("", "versions, kernels and devices in use", _info),
}


def _parse_training(
    recipe_class: "type[Recipe]",
    words: list[str],
    stored: "tuple[Recipe, RunOptions] | None" = None,
) -> "tuple[Recipe, RunOptions]":
    """The recipe and the run's options from one flat list of words, and else as stored."""
    name = recipe_class.name
    fields = [
        ("recipe", recipe_class, field(default_factory=recipe_class)),
        ("run", RunOptions, field(default_factory=lambda: RunOptions(out=Path("runs") / name))),
    ]
    command = dataclasses.make_dataclass("command", fields, namespace={"__doc__": " "})
    default = command() if stored is None else command(*stored)
    parsed = parse_options(command, words, f"gencore train {name}", default)
    return parsed.recipe, parsed.run


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
    commands = "\n".join(
        f"  {name + ' ' + arguments:<27} {text}" for name, (arguments, text, _) in _COMMANDS.items()
    )
    return f"""usage: gencore COMMAND [options]

Generative models on fused C++/CUDA kernels.

commands
{commands}

gencore COMMAND --help shows a command's options, gencore --version the version;
--debug (or GENCORE_DEBUG=1) adds the traceback to an error. The status is 0 when all
is done, 1 after a divergence, 2 after any other error, and 129, 130 or 143 after
SIGHUP, Ctrl-C or SIGTERM. Example:

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
