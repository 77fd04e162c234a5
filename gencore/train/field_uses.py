"""Fields of a recipe that have an effect with some settings of others alone."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["UsedBy", "used_by"]


class UsedBy(NamedTuple):
    """What has to be set for a field to have an effect."""

    what: str
    """In words, which complete "it has an effect with … alone"."""
    holds: Callable[[Mapping[str, Any]], bool]
    """Whether it is so, of all fields by name."""


def used_by(**choices: tuple[Any, ...]) -> UsedBy:
    """A field that has an effect where each of these others has one of these values.

    Example:
        >>> from gencore.train import used_by
        >>> use = used_by(model=("made", "nade"))
        >>> use.what, use.holds({"model": "darn"})
        ('model made or nade', False)
    """
    what = " and ".join(
        f"{field} {' or '.join(map(str, values))}" for field, values in choices.items()
    )
    return UsedBy(
        what,
        lambda fields: all(fields[field] in values for field, values in choices.items()),
    )
