"""The names by which a function's code reads from elsewhere."""

import dis
import re
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

__all__ = ["Names", "names_of"]

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class Names(NamedTuple):
    """Global names, all names together, identifiers in strings, and modules that are imported."""

    globals: set[str]
    attributes: set[str]
    strings: set[str]
    imports: set[str]


def names_of(code: CodeType) -> Names:
    """The names in the code, and in that of its comprehensions, lambdas and inner functions.

    Any name may be that of an attribute, and so may the words of a string, for `getattr`. A
    relative import has the name ".".

    Example:
        >>> scaled = lambda x: [scale * x.size(k) for k in range(2)]
        >>> sorted(names_of(scaled.__code__).globals)
        ['range', 'scale']
    """
    names = Names(set(), set(), set(), set())
    for part in _nested(code):
        names.attributes.update(part.co_names)
        for string in _strings(part.co_consts):
            names.strings.update(_IDENTIFIER.findall(string))
        steps = [step for step in dis.get_instructions(part) if step.opname != "EXTENDED_ARG"]
        for k, step in enumerate(steps):
            if step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")):
                names.globals.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                level = steps[k - 2].argval  # two are on the stack: the level and the list of names
                names.imports.add(step.argval if level == 0 else ".")
    return names


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _strings(constants: object) -> Iterator[str]:
    if isinstance(constants, str):
        yield constants
    elif isinstance(constants, (tuple, frozenset)):
        for constant in constants:
            yield from _strings(constant)
