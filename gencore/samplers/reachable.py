"""What a function reads besides its argument: Python values and tensors that it can reach."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from operator import is_
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

__all__ = ["Reachable"]

_MOST = 10_000
_TABLES = ("_parameters", "_buffers", "_modules")
_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)
_OPAQUE = (str, bytes, int, float, complex, bool, type(None), Tensor, type, ModuleType)
_LIBRARIES = ("builtins", "torch", "numpy", "collections", "typing", "types")


class _Cell:
    """A closure's variable under the interface of a dictionary."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell

    def __getitem__(self, _: str) -> Any:
        return self._cell.cell_contents


class Reachable:
    """The places that a function reads from, and what was there when this was made.

    They are found through closures, global names, methods, attributes, containers and modules, of
    torch's own modules only `training`, the parameters and the submodules. What hides elsewhere, as
    in slots or behind a property, is not found.

    Example:
        >>> scale = [2.0]
        >>> reachable = Reachable(lambda x: scale[0] * x)
        >>> scale[0] = 3.0
        >>> reachable.has_changed(), [name for name, *_ in reachable.changes()]
        (True, ['scale[0]'])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.modules: list[nn.Module] = []
        self._names: list[str] = []
        self._places: list[tuple[Any, Any]] = []
        self._values: list[Any] = []
        self._tensors: dict[int, tuple[Any, Any]] = {}
        self._seen: dict[int, Any] = {}  # the objects themselves, so that no number is used twice
        self._walk(function, getattr(function, "__name__", type(function).__name__))

    def has_changed(self) -> bool:
        """Whether a place holds another object than it did."""
        if not self._places:
            return False
        try:
            return not all(map(is_, [place[key] for place, key in self._places], self._values))
        except (LookupError, ValueError):  # a name, an entry or a variable is gone
            return True

    def changes(self) -> Iterator[tuple[str, Any]]:
        """The names of the places that have changed, and what they held."""
        for name, (place, key), value in zip(self._names, self._places, self._values, strict=True):
            try:
                if place[key] is value:
                    continue
            except (LookupError, ValueError):
                pass
            yield name, value

    def forget_changes(self) -> None:
        """Leave out the places that have changed: the function itself writes to them."""
        changed = {name for name, _ in self.changes()}
        kept = [k for k, name in enumerate(self._names) if name not in changed]
        self._names = [self._names[k] for k in kept]
        self._places = [self._places[k] for k in kept]
        self._values = [self._values[k] for k in kept]

    def place_of(self, tensor: Tensor) -> tuple[Any, Any]:
        """(container, key) where the function finds the tensor, or one that holds it for good."""
        return self._tensors.get(id(tensor), ((tensor,), 0))

    def _note(self, name: str, place: Any, key: Any, value: Any, *, leaf: bool = True) -> None:
        if isinstance(value, Tensor):
            self._tensors.setdefault(id(value), (place, key))
            return
        if leaf:
            self._names.append(name)
            self._places.append((place, key))
            self._values.append(value)
        self._walk(value, name)

    def _walk(self, value: Any, name: str) -> None:
        if isinstance(value, _OPAQUE) or id(value) in self._seen or len(self._seen) > _MOST:
            return
        self._seen[id(value)] = value
        if isinstance(value, nn.Module):
            self._walk_module(value, name)
        elif isinstance(value, FunctionType):
            self._walk_function(value, name)
        elif isinstance(value, MethodType):
            self._walk(value.__self__, name)
            self._walk(value.__func__, name)
        elif isinstance(value, partial):
            for part in (value.func, value.args, value.keywords):
                self._walk(part, name)
        elif isinstance(value, dict):
            for key, item in list(value.items()):
                self._note(f"{name}[{key!r}]", value, key, item)
        elif isinstance(value, (list, tuple)):
            for k, item in enumerate(value):
                self._note(f"{name}[{k}]", value, k, item)
        elif not _is_library(type(value).__module__):
            for key, item in list(getattr(value, "__dict__", {}).items()):
                self._note(f"{name}.{key}", value.__dict__, key, item)
            self._walk(vars(type(value)).get("__call__"), name)

    def _walk_module(self, module: nn.Module, name: str) -> None:
        self.modules.append(module)
        attributes = module.__dict__
        self._note(f"{name}.training", attributes, "training", module.training)
        for table in _TABLES:
            for key, item in list(attributes[table].items()):
                self._note(f"{name}.{key}", attributes[table], key, item)
        if not _is_library(type(module).__module__):
            for key, item in list(attributes.items()):
                if key not in _OF_EVERY_MODULE:
                    self._note(f"{name}.{key}", attributes, key, item)
            self._walk(type(module).forward, name)

    def _walk_function(self, function: FunctionType, name: str) -> None:
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            with suppress(ValueError):  # not assigned yet
                self._note(variable, _Cell(cell), variable, cell.cell_contents)
        if _is_library(function.__module__):
            return
        for variable in function.__code__.co_names:
            found = function.__globals__.get(variable)
            # Functions of other files are libraries, whose globals stand still.
            if found is not None and (
                isinstance(found, (bool, int, float, complex, Tensor, nn.Module, dict, list, tuple))
                or (isinstance(found, FunctionType) and found.__module__ == function.__module__)
            ):
                self._note(variable, function.__globals__, variable, found)


def _is_library(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in _LIBRARIES
