"""Command-line options from a dataclass, with complaints of one line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
from typing import TypeVar

__all__ = ["UsageError", "parse_options"]

T = TypeVar("T")


class UsageError(ValueError):
    """The command line itself is wrong."""


def parse_options(kind: type[T], words: list[str], prog: str, default: T | None = None) -> T:
    """A dataclass from words such as ``--steps 600``, by tyro.

    Fields without a default are positional; fields of dataclasses inside count as their own.

    Args:
        kind: the dataclass; the docstrings of its fields are the help.
        words: of the command line.
        prog: the command, for messages.
        default: values for what the words do not give.

    Raises:
        UsageError: unknown options or values that do not fit, in one sentence.

    Example:
        >>> @dataclasses.dataclass
        ... class Options:
        ...     steps: int = 10
        >>> parse_options(Options, ["--steps", "20"], "prog")
        Options(steps=20)
        >>> parse_options(Options, ["--stepz", "20"], "prog")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        gencore.options.UsageError: prog has no option --stepz (did you mean --steps?); ...
    """
    from gencore.extras import training_extra

    with training_extra():
        import tyro

    complaint = io.StringIO()
    styles = (
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.OmitArgPrefixes,
        tyro.conf.PositionalRequiredArgs,
    )
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                kind,
                args=words,
                prog=prog,
                default=default,
                return_unknown_args=True,
                config=styles,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_box_text(complaint.getvalue())} ({prog} --help)") from None
    if unknown:
        options = _option_names(kind)
        close = difflib.get_close_matches(unknown[0], options, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"{prog} has no option {unknown[0]}{hint}; its options are {', '.join(options)}"
        )
    assert isinstance(parsed, kind)
    return parsed


def _option_names(kind: type) -> list[str]:
    """The options of a dataclass, those of dataclasses inside it included."""
    names: list[str] = []
    for item in dataclasses.fields(kind):
        if dataclasses.is_dataclass(item.type):
            names += _option_names(item.type)  # type: ignore[arg-type]
        elif not (
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ):
            names.append("--" + item.name.replace("_", "-"))
    return names


def _box_text(box: str) -> str:
    """The sentence in the first part of a complaint that tyro has put into a box."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    first_part = itertools.takewhile(lambda line: not line.startswith("──"), lines)
    return " ".join(" ".join(first_part).split()) or "wrong options"
