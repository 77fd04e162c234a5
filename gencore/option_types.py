"""The types that options may have: read from words and from plain data, and shown in help.

They are int, float, str, bool, Path, Literal, tuples of these, and unions of these and None.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["choices", "from_plain", "from_words", "placeholder", "to_plain", "value_count"]


def from_words(hint: Any, words: Sequence[str]) -> Any:
    """The value of this type that the words of a command line give.

    Raises:
        ValueError: they do not fit; the sentence goes on after "--option: ".
        TypeError: no option can have this type.

    Example:
        >>> from_words(int | None, ["12"]), from_words(tuple[float, ...], ["0.9", "1"])
        (12, (0.9, 1.0))
        >>> from_words(int, ["many"])
        Traceback (most recent call last):
            ...
        ValueError: expected a whole number, got 'many'
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Union or kind is UnionType:
        return _union_from_words(parts, words)
    if kind is tuple:
        kinds = _parts_of_tuple(parts, len(words))
        if len(kinds) != len(words):
            raise ValueError(f"expected {len(kinds)} values, got {len(words)}")
        return tuple(from_words(part, [word]) for part, word in zip(kinds, words, strict=True))
    if len(words) != 1:
        raise ValueError(f"expected one value, got {len(words)}")
    (word,) = words
    if kind is Literal:
        for part in parts:
            if str(part) == word:
                return part
        raise ValueError(f"expected one of {', '.join(map(repr, parts))}, got {word!r}")
    if hint is bool:
        if word not in ("true", "false"):
            raise ValueError(f"expected true or false, got {word!r}")
        return word == "true"
    if hint is int or hint is float:
        return _number(hint, word)
    if hint is str or hint is Path:
        return hint(word)
    raise TypeError(f"an option cannot have the type {hint}")


def _union_from_words(parts: tuple[Any, ...], words: Sequence[str]) -> Any:
    if NoneType in parts and [word.lower() for word in words] == ["none"]:
        return None
    kinds = [part for part in parts if part is not NoneType]
    for part in kinds[:-1]:
        with suppress(ValueError):
            return from_words(part, words)
    return from_words(kinds[-1], words)


def _number(kind: type[int] | type[float], word: str) -> int | float:
    try:
        number = kind(word)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise ValueError(f"expected {expected}, got {word!r}") from None
    if not _is_sound(number):
        expected = "a number of 64 bits" if kind is int else "a finite number"
        raise ValueError(f"expected {expected}, got {word}")
    return number


def _is_sound(number: int | float) -> bool:
    """Whether a number is finite, and a whole one fits into 64 bits, with or without a sign."""
    return math.isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**64


def _parts_of_tuple(parts: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return parts[:1] * length if parts[1:] == (...,) else parts


def value_count(hint: Any) -> int | Literal["+"]:
    """How many words a value of this type has on the command line; "+" is one or more.

    Example:
        >>> value_count(int | None), value_count(tuple[int, int]), value_count(tuple[int, ...])
        (1, 2, '+')
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Union or kind is UnionType:
        counts = {value_count(part) for part in parts}
        return counts.pop() if len(counts) == 1 else "+"
    if kind is tuple:
        return "+" if parts[1:] == (...,) else len(parts)
    return 1


def choices(hint: Any) -> list[str]:
    """The words that one word of a value may be, where they are few; else none.

    Example:
        >>> choices(tuple[Literal["a", "b"], ...] | None), choices(int)
        (['a', 'b'], [])
    """
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return [str(part) for part in parts]
    return [word for part in dict.fromkeys(parts) for word in choices(part)]


def placeholder(hint: Any) -> str:
    """What stands for one word of a value in help.

    Example:
        >>> placeholder(int | None), placeholder(Literal["a", "b"]), placeholder(tuple[float, ...])
        ('INT|none', '{a,b}', 'FLOAT')
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Union or kind is UnionType:
        shown = [placeholder(part) for part in parts if part is not NoneType]
        # Of a text it reads as if the text were "none".
        has_none = NoneType in parts and not {str, Path} & set(parts)
        return "|".join([*shown, "none"] if has_none else shown)
    if kind is tuple:
        return "|".join(dict.fromkeys(placeholder(part) for part in parts if part is not ...))
    if kind is Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    names = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", bool: "{true,false}"}
    return names.get(hint, str(hint))


def to_plain(name: str, value: Any) -> Any:
    """A value as JSON has it.

    Raises:
        TypeError: it is of another type; the message names it.

    Example:
        >>> to_plain("widths", (64, 64))
        [64, 64]
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [to_plain(name, item) for item in value]
    raise TypeError(
        f"recipe field {name} is a {type(value).__name__}; fields are numbers, strings, booleans, "
        "None, paths or tuples of these"
    )


def from_plain(name: str, value: Any, hint: Any) -> Any:
    """The value of this type that `to_plain` made plain.

    Raises:
        ValueError: it does not fit; the message names it.

    Example:
        >>> from_plain("widths", [64, 64], tuple[int, ...])
        (64, 64)
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Union or kind is UnionType:
        for part in parts:
            with suppress(ValueError):
                return from_plain(name, value, part)
    elif kind is Literal:
        if any(type(value) is type(part) and value == part for part in parts):
            return value
    elif kind is tuple and isinstance(value, list):
        kinds = _parts_of_tuple(parts, len(value))
        if len(kinds) == len(value):
            items = zip(value, kinds, strict=True)
            return tuple(from_plain(name, item, part) for item, part in items)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif (type(value) is hint or (hint is float and type(value) is int)) and (
        not isinstance(value, int | float) or _is_sound(value)
    ):
        return value
    expected = hint.__name__ if isinstance(hint, type) and not parts else str(hint)
    raise ValueError(f"{name} is {value!r}; expected {expected.replace('typing.', '')}")
