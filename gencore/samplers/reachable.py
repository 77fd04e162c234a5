"""What a function reads besides its argument: Python values and tensors that it can reach."""

import builtins
import enum
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import _lru_cache_wrapper, cached_property, partial, partialmethod
from importlib.machinery import BuiltinImporter, ExtensionFileLoader
from itertools import chain
from operator import attrgetter, is_
from types import (
    BuiltinMethodType,
    CellType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, NoReturn

import numpy as np
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

from gencore.samplers.ahead_of_time import UncompilableError
from gencore.samplers.code_names import names_of
from gencore.samplers.standing_still import is_constant, is_same, is_trusted

__all__ = ["Place", "Reachable"]

Place = tuple[Callable[[Any], Any], Any]
"""(get, key): `get(key)` is what is there now, or an error if it is gone."""

_GONE = (LookupError, ValueError, AttributeError)
_DICTS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = (*_DICTS, list, set, frozenset, deque)
_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_EVERY_MODULE = frozenset(nn.Module().__dict__) - {"training"}

_CALLED_BY_TORCH = {"forward", "backward", "setup_context", "jvp", "vmap"}
_CONSTRUCTORS = {"__new__", "__init__", "__post_init__"}
_ASIDE = {  # methods that do not take part in a call
    "__repr__", "__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__",
    "__copy__", "__deepcopy__", "__init_subclass__", "__class_getitem__", "__set_name__",
    "extra_repr", "reset_parameters",
}  # fmt: skip
_READ_BY_STRING = {
    "getattr", "hasattr", "vars", "dir", "__dict__", "attrgetter", "methodcaller", "AttributeError",
    "asdict", "astuple", "fields", "replace", "__replace__", "copy", "deepcopy", "inspect",
}  # fmt: skip
_EVERYTHING = (object, nn.Module)
_IS_MADE_AT_RUN_TIME = 1 << 9  # Py_TPFLAGS_HEAPTYPE


class Reachable:
    """The places that a function reads from, and what was there when this was made.

    They are found by the names in its code and in that of whatever functions, methods and classes
    it reaches: global names, variables of closures, defaults, attributes, containers, and modules
    with their hooks. Code of torch, NumPy, gencore and of the standard library's tools for
    functions and containers stands still.

    Raises:
        UncompilableError: if it reaches something whose changes cannot be seen, such as a NumPy
            array, an iterator or a clock.

    Example:
        >>> scale, double = [2.0], lambda x: scale[0] * x
        >>> double.__module__ = "mine"  # and not gencore's own, which stands still
        >>> reachable = Reachable(double)
        >>> scale[0] = 3.0
        >>> reachable.has_changed(), list(reachable.changes())
        (True, ['scale'])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.tensors: dict[int, list[Place]] = {}  # by id: where each is found
        self._places: list[Place] = []
        self._place_names: list[str] = []
        self._containers: list[Any] = []
        self._container_names: list[str] = []
        self._empty: list[Any] = []  # most tables and hooks of modules are
        self._seen: dict[int, Any] = {}  # the objects themselves, so that no number is used twice
        self._classes: dict[int, type] = {}
        self._globals: set[tuple[int, str]] = set()
        self._names = set(_CALLED_BY_TORCH)
        self._is_read_by_string = False
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._left: deque[Callable[[], None]] = deque()  # a queue: chains of calls may be long

        self._walk(function, getattr(function, "__name__", type(function).__name__))
        while self._left:
            self._left.popleft()()
        self._dicts = [c for c in self._containers if isinstance(c, dict)]
        self._before = self._look()

    def has_changed(self) -> bool:
        """Whether anything that is no tensor is another than it was."""
        before = self._before
        try:
            if (
                not any(self._empty)
                and all(map(is_, [get(key) for get, key in self._places], before[0]))
                and list(map(len, self._containers)) == before[1]
                and all(map(is_, chain.from_iterable(self._containers), before[2]))
                and all(map(is_, chain.from_iterable(map(dict.values, self._dicts)), before[3]))
            ):
                return False
            now = self._look()
        except _GONE:
            return True
        if (
            any(self._empty)
            or now[1] != before[1]
            or not all(map(is_same, chain(now[0], *now[2:]), chain(before[0], *before[2:])))
        ):
            return True
        self._before = now  # equal numbers, or tensors in the place of tensors
        return False

    def changes(self) -> Iterator[str]:
        """The names of what has changed."""
        for name, (get, key), value in zip(
            self._place_names, self._places, self._before[0], strict=True
        ):
            try:
                if is_same(get(key), value):
                    continue
            except _GONE:
                pass
            yield name
        if any(self._empty):
            yield "what was empty"
        members, items = iter(self._before[2]), iter(self._before[3])
        for name, container, length in zip(
            self._container_names, self._containers, self._before[1], strict=True
        ):
            old, now = [next(members) for _ in range(length)], list(container)
            if isinstance(container, dict):
                old += [next(items) for _ in range(length)]
                now += container.values()
            if len(now) != len(old) or not all(map(is_same, now, old)):
                yield name

    def _look(self) -> tuple[list[Any], list[int], list[Any], list[Any]]:
        return (
            [get(key) for get, key in self._places],
            list(map(len, self._containers)),
            list(chain.from_iterable(self._containers)),
            list(chain.from_iterable(map(dict.values, self._dicts))),
        )

    # What is found waits in a queue; attributes wait until some code names them.

    def _note(self, name: str, get: Callable[[Any], Any], key: Any) -> None:
        value = get(key)
        if isinstance(value, Tensor):
            self._note_tensor(name, get, key)
            return
        self._places.append((get, key))
        self._place_names.append(name)
        self._walk(value, name)

    def _note_tensor(self, name: str, get: Callable[[Any], Any], key: Any) -> None:
        tensor = get(key)
        self.tensors.setdefault(id(tensor), []).append((get, key))
        for attribute in getattr(tensor, "__dict__", ()):
            self._when_named(attribute, _refuse, f"{name}.{attribute}", "of a tensor")

    def _when_named(self, name: str, function: Callable[..., None], *args: Any) -> None:
        action = partial(function, *args)
        if self._is_read_by_string or name in self._names:
            self._left.append(action)
        else:
            self._waiting.setdefault(name, []).append(action)

    def _add_names(self, names: set[str]) -> None:
        self._names |= names
        for name in names & self._waiting.keys():
            self._left += self._waiting.pop(name)

    def _read_by_string(self) -> None:
        self._is_read_by_string = True
        for actions in self._waiting.values():
            self._left += actions
        self._waiting.clear()

    def _walk(self, value: Any, name: str) -> None:
        if value is np:
            self._when_named("random", _refuse, name, "with random numbers")
        if id(value) not in self._seen and not is_constant(value):
            self._seen[id(value)] = value
            self._left.append(partial(self._walk_now, value, name))

    def _walk_now(self, value: Any, name: str) -> None:
        if isinstance(value, nn.Module):
            self._walk_module(value, name)
        elif isinstance(value, FunctionType):
            self._walk_function(value, name)
        elif isinstance(value, MethodType):
            self._walk(value.__self__, name)
            self._walk(value.__func__, name)
        elif isinstance(value, (BuiltinMethodType, MethodWrapperType)):
            owner = value.__self__
            if isinstance(owner, (ModuleType, type(None))) or (
                isinstance(owner, type) and not _is_python(owner)
            ):
                _refuse(name, f"the function {value.__name__}()")
            self._walk_parts(owner, name=name)
        elif isinstance(value, (partial, partialmethod)):
            self._walk_parts(value.func, value.args, value.keywords, name=name)
        elif isinstance(value, (staticmethod, classmethod)):
            self._walk(value.__func__, name)
        elif isinstance(value, property):
            self._walk_parts(value.fget, name=name)
        elif isinstance(value, cached_property):
            self._walk(value.func, name)
        elif isinstance(value, _lru_cache_wrapper):
            self._walk(value.__wrapped__, name)
        elif isinstance(value, enum.Enum):
            self._walk_parts(value.value, name=name)
            self._walk_class(type(value), name)
        elif type(value) in _CONTAINERS:
            self._walk_container(value, name)
        elif isinstance(value, tuple):
            for k in range(len(value)):
                if isinstance(value[k], Tensor):
                    self._note_tensor(f"{name}[{k}]", value.__getitem__, k)
                else:
                    self._walk(value[k], f"{name}[{k}]")
            if type(value) is not tuple:
                self._walk_class(type(value), name)
        elif isinstance(value, ModuleType):
            for key in vars(value):
                if not _is_dunder(key):
                    self._when_named(key, self._walk_global, vars(value), key, False)
        elif isinstance(value, type):
            self._walk_class(value, name)
            self._add_names(_CONSTRUCTORS)
        else:
            self._walk_instance(value, name)

    def _walk_parts(self, *values: Any, name: str) -> None:
        """Walk what an object holds for good."""
        for value in values:
            if isinstance(value, Tensor):
                self._note_tensor(name, (value,).__getitem__, 0)
            else:
                self._walk(value, name)

    def _walk_container(self, container: Any, name: str) -> None:
        if not container:
            self._empty.append(container)
            return
        self._containers.append(container)
        self._container_names.append(name)
        if isinstance(container, (set, frozenset)):
            for item in container:
                if isinstance(item, Tensor):
                    _refuse(name, "a tensor in a set")
                self._walk(item, name)
            return
        for key in container if isinstance(container, dict) else range(len(container)):
            if isinstance(container, dict):
                self._walk(key, name)
            if isinstance(container[key], Tensor):
                self._note_tensor(f"{name}[{key!r}]", container.__getitem__, key)
            else:
                self._walk(container[key], f"{name}[{key!r}]")

    def _walk_module(self, module: nn.Module, name: str) -> None:
        attributes = module.__dict__
        for key in (*_TABLES, *_HOOKS):
            table = attributes[key]
            if type(table) not in _DICTS:
                _refuse(name, f"a module of {type(module).__name__}")
            if key == "_modules" or (key in _TABLES and table):
                self._places.append((attributes.__getitem__, key))
                self._place_names.append(f"{name}.{key}")
            self._walk_container(table, name)
        for hooks in (
            nn_module._global_forward_pre_hooks, nn_module._global_forward_hooks,
            nn_module._global_backward_pre_hooks, nn_module._global_backward_hooks,
        ):  # fmt: skip
            self._walk(hooks, "torch.nn.modules.module")
        self._walk_attributes(module, name, attributes.keys() - _OF_EVERY_MODULE)

    def _walk_instance(self, value: Any, name: str) -> None:
        kinds = [kind for kind in type(value).__mro__ if not _is_python(kind)]
        if kinds not in ([object], [SimpleNamespace, object]):
            _refuse(name, f"a {type(value).__module__}.{type(value).__qualname__}")
        self._walk_attributes(value, name, getattr(value, "__dict__", {}).keys())

    def _walk_attributes(self, value: Any, name: str, keys: Iterable[str]) -> None:
        attributes = getattr(value, "__dict__", {})
        for key in sorted(keys):
            self._when_named(key, self._note, f"{name}.{key}", attributes.__getitem__, key)
        self._places.append((type, value))
        self._place_names.append(name)
        self._walk_class(type(value), name)
        for key, item in chain.from_iterable(
            vars(kind).items() for kind in type(value).__mro__ if kind not in _EVERYTHING
        ):
            if isinstance(item, MemberDescriptorType) and not _is_dunder(key):
                self._when_named(key, self._note_slot, f"{name}.{key}", value, key)
            elif not (key in attributes or isinstance(item, property) or key in _ASIDE):
                # An attribute of the object itself would hide it.
                self._when_named(key, self._note, f"{name}.{key}", attributes.__contains__, key)

    def _note_slot(self, name: str, value: Any, key: str) -> None:
        if hasattr(value, key):
            self._note(name, partial(getattr, value), key)
        else:
            self._note(name, partial(hasattr, value), key)

    def _walk_class(self, kind: type, name: str) -> None:
        for owner in kind.__mro__:
            if id(owner) in self._classes or owner in _EVERYTHING:
                continue
            self._classes[id(owner)] = owner
            is_library = is_trusted(owner.__module__)
            for key, item in vars(owner).items():
                what = f"{name}.{key}"
                if not is_library:
                    action = partial(self._note, what, vars(owner).__getitem__, key)
                else:
                    action = partial(self._walk, item, what)
                if key in _ASIDE:
                    continue
                if not _is_dunder(key) or key in _CONSTRUCTORS:
                    self._when_named(key, action)
                elif hasattr(item, "__get__"):
                    action()

    def _walk_function(self, function: FunctionType, name: str) -> None:
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._walk_variable(variable, cell)
        names = names_of(function.__code__)
        is_library = is_trusted(function.__module__)
        if not is_library:
            for attribute in ("__code__", "__defaults__", "__kwdefaults__"):
                self._note(f"{name}.{attribute}", attrgetter(attribute), function)
            for key in vars(function):
                self._when_named(key, self._note, f"{name}.{key}", vars(function).__getitem__, key)
            if names.attributes & {"type", "__class__"}:  # classes of objects, to make others
                self._add_names(_CONSTRUCTORS)
            for module in names.imports:
                self._walk_import(module, name)
        for variable in names.globals:
            self._walk_global(function.__globals__, variable, is_library)
        if names.attributes & _READ_BY_STRING and not is_library:
            self._read_by_string()
        self._add_names(names.attributes | names.strings)

    def _walk_variable(self, name: str, cell: CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            _refuse(name, "a variable without a value")
        if name == "__class__" and isinstance(value, type):  # of super()
            self._walk_class(value, value.__name__)
        else:
            self._note(name, attrgetter("cell_contents"), cell)

    def _walk_global(self, variables: dict[str, Any], name: str, is_library: bool) -> None:
        if (id(variables), name) in self._globals:
            return
        self._globals.add((id(variables), name))
        value = variables.get(name)
        if is_library:  # whose names stand still, but its functions may read attributes
            if str(getattr(value, "__module__", None)).startswith("gencore."):
                self._walk(value, name)
        elif name in variables:
            self._note(name, variables.__getitem__, name)
        else:
            self._note(name, variables.__contains__, name)
            self._walk(getattr(builtins, name, None), name)

    def _walk_import(self, module: str, name: str) -> None:
        if is_trusted(module):
            return
        parts = module.split(".")
        for k in range(len(parts)):
            found = sys.modules.get(".".join(parts[: k + 1]))
            if found is None:
                _refuse(name, "something that it imports by itself")
            self._walk(found, module)


def _refuse(name: str, what: str) -> NoReturn:
    raise UncompilableError(f"it reads {name}, {what}, whose changes cannot be seen")


def _is_aside(name: str) -> bool:
    return name in _ASIDE or _is_dunder(name)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_python(kind: type) -> bool:
    """Whether the class is written in Python, so that its state is in attributes."""
    if kind.__module__ in ("typing", "abc"):
        return True
    spec = getattr(sys.modules.get(kind.__module__), "__spec__", None)
    loader = getattr(spec, "loader", None)
    return (
        bool(kind.__flags__ & _IS_MADE_AT_RUN_TIME)
        and loader is not BuiltinImporter
        and not isinstance(loader, ExtensionFileLoader)
        and not kind.__module__.startswith("torch._C")
    )
