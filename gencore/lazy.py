"""Packages that import their modules when a name of theirs is first used.

What such a package offers stands in its ``__init__.pyi``, as the imports that type checkers read;
``from package.part import *`` there stands for all that the part offers. So the options of a recipe
can be read without torch, and a model imported without all the others.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, init_file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from the stub beside it.

    Args:
        package: ``__name__`` of the package.
        init_file: its ``__file__``.

    Raises:
        AttributeError: by ``__getattr__``, for a name that the package does not have.

    Example:
        >>> import gencore.data
        >>> get, _, names = lazy_exports("gencore.data", gencore.data.__file__)
        >>> get("load_images").__module__, "load_images" in names
        ('gencore.data.images.images', True)
    """
    modules = _modules(Path(init_file).with_name("__init__.pyi"))

    def get(name: str) -> Any:
        if name in modules:
            module, own_name = modules[name]
            return getattr(import_module(module), own_name)
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    names = sorted(modules)
    return get, lambda: names, names


def _modules(stub: Path) -> dict[str, tuple[str, str]]:
    """Name → the module that has it and its name there, of all that a stub imports."""
    modules: dict[str, tuple[str, str]] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        for alias in node.names:
            if alias.name == "*":
                part = node.module.rpartition(".")[2]
                modules |= _modules(stub.parent / part / "__init__.pyi")
            else:
                modules[alias.asname or alias.name] = node.module, alias.name
    return modules
