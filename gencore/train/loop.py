"""The training loop: step, log, save; stop cleanly, and go on later as if nothing had happened."""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gencore.atomic import replacing
from gencore.train import figures
from gencore.train.checkpoint import load_checkpoint, save_checkpoint
from gencore.train.devices import Vote, launch, on_rank_zero
from gencore.train.experiment import Diverged, Experiment
from gencore.train.logs import RunLog, read_log
from gencore.train.rank_noise import refuse_same_noise
from gencore.train.recipe import Recipe
from gencore.train.run_folder import RunFolder, defaults_of, describe
from gencore.train.signals import Interrupted, StopRequest

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.train.loggers import LoggerChoice

__all__ = ["fit", "load_experiment", "seeded"]


def fit(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    devices: int = 1,
    accelerator: str = "auto",
    resume: bool = False,
    resume_from: int | None = None,
    overwrite: bool = False,
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_every: int = 0,
    num_samples: int | None = None,
    num_evaluate: int = 1000,
    loggers: "Sequence[LoggerChoice]" = ("tensorboard",),
    progress: bool = True,
) -> Experiment:
    """Trains what `recipe` builds and leaves config, logs, checkpoint, samples and measures.

    A resumed run is bit for bit the run that was not interrupted, on the same machine and with the
    same number of devices. Ctrl-C, SIGTERM or the end of the terminal (SIGHUP)
    ends the run after the current step with a checkpoint.

    Args:
        recipe: what to train; its `seed` also seeds torch's default generators.
        run_dir: the run's folder, made if need be (see `RunFolder` for what lies in it).
        devices: processes to train with; `batch_size` is divided among them.
        accelerator: "auto", "cpu", "cuda" or "mps".
        resume: continue the run in `run_dir`; only `recipe.changeable` and `recipe.tunable` fields
            may differ.
        resume_from: continue it from the checkpoint of this step, which `keep_every` has kept.
        overwrite: replace the run in `run_dir`.
        log_every: steps between two rows of the log; only then are the scalars read.
        checkpoint_every: steps between two checkpoints; one is written at the end in any case.
        keep_every: steps between two checkpoints that stay beside the latest; 0 keeps none.
        num_samples: samples in the final figure, `recipe.figure_samples` if None; 0 draws none.
        num_evaluate: samples for the final measures; 0 measures nothing.
        loggers: where the rows of log.csv go as well: "tensorboard", "wandb", "mlflow", or objects
            like those of `lightning_fabric.loggers`; "none" or nothing is log.csv alone. A resumed
            run sends a step only once; give it a logger that goes on where it was.
        progress: show a progress bar.

    Returns:
        The trained experiment.

    Raises:
        ValueError: options that do not fit each other, the data, the machine or the checkpoint.
        OSError: the folder holds another run, holds none to resume, or cannot be written.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, the checkpoint being written.
        Diverged: by a step, or because a logged scalar or a parameter is not finite. The latest
            checkpoint is then from before.
    """
    for name, period in (("log_every", log_every), ("checkpoint_every", checkpoint_every)):
        if period < 1:
            raise ValueError(f"fit: {name} must be a positive number of steps, got {period}")
    if keep_every < 0 or keep_every % checkpoint_every:
        raise ValueError(
            f"fit: keep_every must be a multiple of checkpoint_every ({checkpoint_every}), "
            f"got {keep_every}"
        )
    num_samples = recipe.figure_samples if num_samples is None else num_samples
    if min(num_samples, num_evaluate) < 0:
        raise ValueError("fit: num_samples and num_evaluate must not be negative")

    from gencore.train.loggers import check_loggers

    check_loggers(loggers)
    resume = resume or resume_from is not None
    fabric = launch(
        devices, accelerator, recipe.precision, skips_parameters=recipe.skips_parameters
    )
    folder = RunFolder(run_dir)
    on_rank_zero(fabric, lambda: folder.claim(resume=resume, overwrite=overwrite, step=resume_from))
    settings = {
        "log_every": log_every, "checkpoint_every": checkpoint_every, "keep_every": keep_every,
        "num_samples": num_samples, "num_evaluate": num_evaluate,
        "logger": [logger for logger in loggers if isinstance(logger, str)],
    }  # fmt: skip
    try:
        return _run(fabric, folder, recipe, settings, resume, resume_from, loggers, progress)
    finally:
        folder.release()


def _run(
    fabric: "Fabric",
    folder: RunFolder,
    recipe: Recipe,
    settings: dict[str, Any],
    resume: bool,
    resume_from: int | None,
    loggers: "Sequence[LoggerChoice]",
    progress: bool,
) -> Experiment:
    """The run in its folder, which is claimed."""
    log_every, checkpoint_every = settings["log_every"], settings["checkpoint_every"]
    figures.check_packages()
    dataset = recipe.load_data()
    data = recipe.describe_data(dataset)
    changeable = _check_data(folder, data) if resume else frozenset()
    batches = recipe.batches(fabric, dataset)
    torch.manual_seed(recipe.seed)
    experiment = recipe.build(fabric, dataset)
    experiment.prepare(settings["num_samples"], settings["num_evaluate"])
    start = 0
    if resume:
        start = _load(folder.source(resume_from), recipe, experiment, changeable)
    if start > recipe.steps:
        raise ValueError(
            f"steps is {recipe.steps}, but the checkpoint to go on from is of step {start}"
        )
    on_rank_zero(fabric, lambda: folder.open(recipe, settings, data, fresh=not resume, start=start))
    if not resume or resume_from is not None:
        # Before the first step: what cannot be saved fails now and not in an hour. And what is
        # gone back to is the latest state from here on.
        _save(fabric, folder, recipe, experiment, start)

    step = saved = start
    vote = Vote(fabric)
    try:
        with (
            StopRequest() as stop,
            RunLog(fabric, folder, recipe, start, progress, loggers) as log,
        ):
            for step in range(start + 1, recipe.steps + 1):
                batch = batches[step - 1]
                is_watched = fabric.world_size > 1 and step == start + 1
                with refuse_same_noise(len(batch)) if is_watched else nullcontext():
                    values = experiment.step(batch)
                last = step == recipe.steps
                if last or step % log_every == 0:
                    log.write(step, _read_scalars(fabric, values))
                else:
                    log.advance(step)
                number = vote.largest(stop.number)
                if last or number or step % checkpoint_every == 0:
                    _check_finite(experiment)
                    _save(fabric, folder, recipe, experiment, step, settings["keep_every"])
                    saved = step
                if number and not last:
                    message = f"stopped at step {step}; its state is in {folder.checkpoint}"
                    raise Interrupted(message, step, number)
        _finish(
            fabric, folder, recipe, experiment, settings["num_samples"], settings["num_evaluate"]
        )
    except Diverged as error:
        raise Diverged(
            f"training diverged at step {step}: {error}. The last good checkpoint, of step "
            f"{saved}, is {folder.checkpoint}. Try {error.advice}.",
            advice=error.advice,
        ) from error
    except OSError as error:
        raise OSError(
            f"{error}. The run stopped at step {step} and can go on (--resume) from its latest "
            f"checkpoint, of step {saved}, {folder.checkpoint}"
        ) from error
    return experiment


def load_experiment(
    run_dir: str | Path, recipe: Recipe, *, accelerator: str = "auto", with_data: bool = True
) -> tuple[Experiment, int, torch.device]:
    """The experiment of a run as its latest checkpoint left it, the step it is at, and its device.

    Args:
        run_dir: the folder of a run.
        recipe: the run's, e.g. from `recipe_from_config`.
        accelerator: where to put it.
        with_data: False leaves the data where they are, if the run's folder describes them: the
            experiment can draw samples, and neither train nor measure.

    Raises:
        ValueError: the data are other ones than the run's, or something is damaged.
        OSError: something cannot be read.
    """
    folder = RunFolder(run_dir)
    fabric = launch(1, accelerator)
    description = folder.read_config()["data"]
    if description and not with_data:
        try:
            dataset, changeable = recipe.described_data(description), frozenset({"data"})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            what = f"its description of the data is {description}"
            raise ValueError(f"{folder.config} is damaged: {what}") from error
    else:
        dataset = recipe.load_data()
        changeable = _check_data(folder, recipe.describe_data(dataset))
    torch.manual_seed(recipe.seed)
    experiment = recipe.build(fabric, dataset)
    return experiment, _load(folder.checkpoint, recipe, experiment, changeable), fabric.device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Torch's default generators start from `seed` in this block, and go on as before after it.

    Yields:
        A further generator with the same seed, on `device`.

    Example:
        >>> with seeded(0, torch.device("cpu")) as generator:
        ...     a = torch.rand(2)
        >>> with seeded(0, torch.device("cpu")) as generator:
        ...     bool((torch.rand(2) == a).all())
        True
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield torch.Generator(device).manual_seed(seed)


def _read_scalars(fabric: "Fabric", values: dict[str, Tensor]) -> dict[str, float]:
    """The means over ranks as Python numbers: the one place where the loop waits for the device."""
    scalars = [torch.as_tensor(value, device=fabric.device) for value in values.values()]
    stacked = torch.stack([scalar.detach().float() for scalar in scalars])
    means = fabric.all_reduce(stacked, reduce_op="mean")
    assert isinstance(means, Tensor)
    numbers: dict[str, float] = dict(zip(values, means.tolist(), strict=True))
    if bad := [name for name, number in numbers.items() if not math.isfinite(number)]:
        raise Diverged(f"{', '.join(bad)} is not finite ({numbers[bad[0]]})")
    return numbers


def _check_finite(experiment: Experiment) -> None:
    """Keeps a broken state out of the checkpoint, where it would replace the last good one."""
    modules = {name: obj for name, obj in experiment.state.items() if isinstance(obj, nn.Module)}
    for name, module in modules.items():
        finite = [parameter.detach().isfinite().all() for parameter in module.parameters()]
        if finite and not torch.stack(finite).all():
            raise Diverged(f"{name} has parameters that are not finite")


def _identity(recipe: Recipe) -> dict[str, Any]:
    description = describe(recipe)
    return {"recipe": description["recipe"], **description["fields"]}


def _check_data(folder: RunFolder, data: Mapping[str, Any]) -> frozenset[str]:
    """Refuses other data than those of the run; the fields that may differ where they are known to
    be the same, wherever they lie."""
    known = folder.read_config()["data"].get("fingerprint") if folder.config.is_file() else None
    if known is None:  # a run from before there were fingerprints
        return frozenset()
    if known != data.get("fingerprint"):
        raise ValueError(
            f"data is not what the run in {folder.path} was trained on: its contents have changed. "
            f'Bring the old ones back, or, if these are meant, take the line "fingerprint" out of '
            f"{folder.config}"
        )
    return frozenset({"data"})


def _load(
    checkpoint: Path, recipe: Recipe, experiment: Experiment, changeable: frozenset[str]
) -> int:
    return load_checkpoint(
        checkpoint,
        experiment.state,
        recipe=_identity(recipe),
        changeable=recipe.changeable | changeable,
        tunable=recipe.tuned(),
        defaults=defaults_of(type(recipe)),
    )


def _save(
    fabric: "Fabric",
    folder: RunFolder,
    recipe: Recipe,
    experiment: Experiment,
    step: int,
    keep_every: int = 0,
) -> None:
    if not fabric.is_global_zero:
        return
    save_checkpoint(folder.checkpoint, experiment.state, step=step, recipe=_identity(recipe))
    if keep_every and step and step % keep_every == 0:
        with replacing(folder.kept_checkpoint(step)) as temporary:
            shutil.copyfile(folder.checkpoint, temporary)


def _finish(
    fabric: "Fabric",
    folder: RunFolder,
    recipe: Recipe,
    experiment: Experiment,
    num_samples: int,
    num_evaluate: int,
) -> None:
    """Samples, measures and the plot; on all ranks, because a wrapped module may communicate."""
    if num_samples:
        with seeded(recipe.seed, fabric.device) as generator:
            if experiment.can("sample"):
                samples = experiment.sample(num_samples, generator)
                if fabric.is_global_zero:
                    experiment.save_samples(samples, folder.samples)
            if fabric.is_global_zero:
                folder.draw_figures(experiment.figures)
    if num_evaluate and experiment.can("evaluate"):
        with seeded(recipe.seed, fabric.device):
            measures = experiment.evaluate(num_evaluate)
        if fabric.is_global_zero:
            content = {"step": recipe.steps, "num_samples": num_evaluate, **measures}
            folder.write_json(folder.metrics, content)
    if fabric.is_global_zero:
        figures.plot_log(read_log(folder.log), folder.loss_plot)
    fabric.barrier()
