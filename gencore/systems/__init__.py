"""The systems that gencore implements, of five documents: ids, sources, code, tests.

A family is a file here, ``systems/<family>.py``, named as the folder of its code, with a tuple
``SYSTEMS`` of its entries. It is found by looking. Nothing here imports torch before the
capabilities of a system are asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from gencore.systems.system import DOCUMENTS, System

__all__ = ["DOCUMENTS", "FAMILIES", "SYSTEMS", "System"]


def _families(package: Path) -> dict[str, tuple[System, ...]]:
    """Family → the entries of its file."""
    mechanism = ("__init__", "__main__", "system")
    names = sorted(path.stem for path in package.glob("*.py") if path.stem not in mechanism)
    return {name: import_module(f"{__name__}.{name}").SYSTEMS for name in names}


def _collect(families: Mapping[str, Iterable[System]]) -> dict[str, System]:
    """id → system, in the order of the documents and of the numbers in them.

    Raises:
        ValueError: if two entries have the same id.
    """
    systems: dict[str, System] = {}
    for family, entries in families.items():
        for system in entries:
            if system.id in systems:
                raise ValueError(
                    f"gencore.systems: {system.id} is entered twice, in the families "
                    f"{systems[system.id].family} and {family}"
                )
            systems[system.id] = replace(system, family=family)
    documents = list(DOCUMENTS)
    order = sorted(systems, key=lambda name: (documents.index(name[0]), name))
    return {name: systems[name] for name in order}


_found = _families(Path(__file__).parent)

FAMILIES = tuple(_found)
"""The families, in alphabetical order."""

SYSTEMS: Mapping[str, System] = MappingProxyType(_collect(_found))
"""id → system, in the order of the documents and of the numbers in them."""
