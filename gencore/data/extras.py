"""Imports of packages that only some readers need."""

from importlib import import_module
from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, needed_for: str) -> ModuleType:
    """Import a module of the optional dependencies, or say how to install it.

    Raises:
        ImportError: the module is not installed.

    Example:
        >>> import_extra("no_such_module", needed_for="juggling")
        Traceback (most recent call last):
        ImportError: juggling needs no_such_module: pip install 'gencore[train]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module that fails inside itself is another fault, which this advice would not cure.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        package = error.name.split(".")[0]
        raise ImportError(f"{needed_for} needs {package}: pip install 'gencore[train]'") from error
