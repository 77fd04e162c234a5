"""The state of a run in one file: live objects, random-number generators, step count, recipe."""

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gencore.train.experiment import StateObject
from gencore.train.state_file import read_state, write_state

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, StateObject],
    *,
    step: int,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Writes the states of all objects, and of torch's default generators, atomically.

    Args:
        path: the file; it stays as it was if anything goes wrong.
        state: name → object, as in `Experiment.state`.
        step: optimisation steps done.
        recipe: anything plain that `load_checkpoint` shall compare, e.g. the recipe's fields.

    Raises:
        TypeError: a state holds something that is no tensor, number or string.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
        >>> model = nn.Linear(2, 1)
        >>> adam = torch.optim.Adam(model.parameters())
        >>> save_checkpoint(path, {"model": model, "adam": adam}, step=7)
        >>> load_checkpoint(path, {"model": model, "adam": adam})
        7
    """
    states = {name: _get_state(obj) for name, obj in state.items()}
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    tree = {"step": step, "recipe": dict(recipe or {}), "random": random, "state": states}
    write_state(path, tree)


def load_checkpoint(
    path: str | Path,
    state: Mapping[str, StateObject],
    *,
    recipe: Mapping[str, Any] | None = None,
    changeable: frozenset[str] = frozenset(),
    tunable: frozenset[str] = frozenset(),
    defaults: Mapping[str, Any] | None = None,
) -> int:
    """Gives all objects, and torch's default generators, the state that `path` holds.

    Everything is checked before the first object is touched, and an object that refuses its state
    leaves all of them as they were.

    Args:
        path: a file of `save_checkpoint`.
        state: the same names and kinds of objects as when it was saved.
        recipe: if given, must equal the stored one but for the entries in `changeable` and
            `tunable`.
        changeable: entries of `recipe` that need not be equal.
        tunable: further ones, of which the settings of optimisers and learning-rate schedulers are
            made. If one differs, these settings stay as they are here, the schedulers being stepped
            as far as those in the file, and only the rest of their state comes from the file.
        defaults: values of the entries that a file from before they existed does not have.

    Returns:
        The number of optimisation steps done.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or belongs to other objects or another recipe.
    """
    saved = read_state(path)
    if missing := {"step", "recipe", "random", "state"} - saved.keys():
        raise ValueError(
            f"{path} is no checkpoint of a run: it has no {', '.join(sorted(missing))}"
        )
    is_tuned = False
    if recipe is not None:
        there = {**(defaults or {}), **saved["recipe"]}
        _check_recipe(path, there, recipe, changeable | tunable)
        is_tuned = any(there.get(key) != recipe.get(key) for key in tunable)
    states: dict[str, Any] = saved["state"]
    if states.keys() != state.keys():
        raise ValueError(
            f"{path} holds the states of {', '.join(states)}; expected {', '.join(state)}"
        )
    for name, obj in state.items():
        if isinstance(obj, nn.Module):
            _check_module(f"{path}: {name}", obj, states[name])
        elif isinstance(obj, Optimizer):
            _check_optimizer(f"{path}: {name}", obj, states[name])
    tune = _keeping_settings(state) if is_tuned else None
    _set_all(path, state, states)
    if tune is not None:
        tune()
    torch.set_rng_state(saved["random"]["cpu"])
    if torch.cuda.is_available() and "cuda" in saved["random"]:
        torch.cuda.set_rng_state(saved["random"]["cuda"])
    return int(saved["step"])


def _get_state(obj: StateObject) -> Any:
    return obj.get_state() if isinstance(obj, torch.Generator) else obj.state_dict()


def _set_state(obj: StateObject, state: Any) -> None:
    if isinstance(obj, torch.Generator):
        obj.set_state(state)
    else:
        obj.load_state_dict(state)
        if isinstance(obj, Optimizer):
            _lay_out(obj)


def _lay_out(optimizer: Optimizer) -> None:
    """Gives moments the memory layout of their parameters, which a file does not keep: fused
    optimisers walk through the memory of both side by side."""
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, torch.Tensor) and moment.shape == parameter.shape:
                layout = torch.empty_like(parameter, dtype=moment.dtype, device=moment.device)
                if layout.stride() != moment.stride():
                    moments[name] = layout.copy_(moment)


def _set_all(path: str | Path, state: Mapping[str, StateObject], states: dict[str, Any]) -> None:
    """Sets every object's state or none.

    Modules and optimisers have been checked and come last; the others, whose rules only they know,
    come first and are put back if one refuses.
    """
    checked = {n for n, obj in state.items() if isinstance(obj, nn.Module | Optimizer)}
    before: dict[str, Any] = {}
    try:
        for name, obj in state.items():
            if name not in checked:
                before[name] = copy.deepcopy(_get_state(obj))
                _set_state(obj, states[name])
    except Exception as error:
        for name, old in before.items():
            _set_state(state[name], old)
        raise ValueError(f"{path}: {name} does not take the state in the file: {error}") from error
    for name in checked:
        _set_state(state[name], states[name])


def _keeping_settings(state: Mapping[str, StateObject]) -> Callable[[], None]:
    """A function that gives optimisers and schedulers, their states having been set meanwhile, the
    settings back that they have now, as after the steps in those states."""
    optimizers = [obj for obj in state.values() if isinstance(obj, Optimizer)]
    schedulers = [
        obj
        for obj in state.values()
        if isinstance(obj, LRScheduler) and not isinstance(obj, ReduceLROnPlateau)
    ]
    settings = [
        [{key: copy.copy(group[key]) for key in group if key != "params"} for group in groups]
        for groups in (optimizer.param_groups for optimizer in optimizers)
    ]
    starts = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]

    def tune() -> None:
        for optimizer, kept in zip(optimizers, settings, strict=True):
            for group, values in zip(optimizer.param_groups, kept, strict=True):
                group.update(values)
        steps = [scheduler.last_epoch for scheduler in schedulers]
        for scheduler, start in zip(schedulers, starts, strict=True):
            scheduler.load_state_dict(start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimisers made no steps in between
            for step in range(max(steps, default=0)):
                for scheduler, last in zip(schedulers, steps, strict=True):
                    if step < last:
                        scheduler.step()

    return tune


def _check_recipe(
    path: str | Path, saved: Mapping[str, Any], given: Mapping[str, Any], changeable: frozenset[str]
) -> None:
    absent = object()
    for key in [*saved, *(key for key in given if key not in saved)]:
        there, here = saved.get(key, absent), given.get(key, absent)
        if key in changeable or there == here:
            continue
        if here is absent or there is absent:
            place = "the checkpoint" if here is absent else "the recipe"
            raise ValueError(f"{path} is from another recipe: only {place} has the field {key}")
        raise ValueError(
            f"{key} is {there!r} in the checkpoint, {here!r} here: a resumed run keeps all but "
            f"{', '.join(sorted(changeable)) or 'nothing'} ({path})"
        )


def _check_module(where: str, module: nn.Module, saved: Mapping[str, Any]) -> None:
    live = module.state_dict()
    if live.keys() != saved.keys():
        odd = sorted(live.keys() ^ saved.keys())
        raise ValueError(f"{where} has other entries than the module here: {', '.join(odd[:4])}")
    for key, value in live.items():
        other = saved[key]
        if not isinstance(value, torch.Tensor):  # torch's "extra state", the module's own business
            continue
        if other.shape != value.shape or other.dtype != value.dtype:
            raise ValueError(
                f"{where}.{key} is {other.dtype} {tuple(other.shape)} in the file, "
                f"{value.dtype} {tuple(value.shape)} here"
            )


def _check_optimizer(where: str, optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    live, groups = optimizer.state_dict()["param_groups"], saved.get("param_groups", [])
    if [len(group["params"]) for group in live] != [len(group["params"]) for group in groups]:
        raise ValueError(f"{where} has other parameter groups than the optimiser here")
    for group, other in zip(live, groups, strict=True):
        if group.keys() != other.keys():
            odd = sorted(group.keys() ^ other.keys())
            raise ValueError(f"{where} is from another optimiser: it differs in {', '.join(odd)}")
