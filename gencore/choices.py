"""The one check of options that are one of a few strings."""

from collections.abc import Iterable

__all__ = ["check_choice"]


def check_choice(owner: str, name: str, value: object, choices: Iterable[object]) -> None:
    """Raise a ValueError unless an option is one of its choices.

    Args:
        owner: the name that the error begins with.
        name: of the option.
        value: what was given.
        choices: what it may be, like ``get_args`` of a ``Literal``.

    Example:
        >>> check_choice("Glow", "coupling", "linear", ("affine", "additive"))
        Traceback (most recent call last):
            ...
        ValueError: Glow: coupling is 'linear'; expected one of affine, additive
    """
    choices = list(choices)
    if value not in choices:
        expected = ", ".join(map(str, choices))
        raise ValueError(f"{owner}: {name} is {value!r}; expected one of {expected}")
