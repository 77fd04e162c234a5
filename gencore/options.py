"""Command-line options from a dataclass, with complaints of one line."""

import contextlib
import dataclasses
import difflib
import io
import re
from typing import TypeVar

__all__ = ["UsageError", "parse_options", "spoken"]

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

    for before, word in zip([prog, *words], words, strict=False):
        # A path would take it for the current folder; it is a variable that a script did not set.
        if not word or (word.startswith("--") and word.endswith("=")):
            option = word[:-1] or before
            raise UsageError(f"{option} needs a value, got an empty one")
    complaint = io.StringIO()
    styles = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs)
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
        sentence = _plain_words(_box_text(complaint.getvalue()))
        raise UsageError(f"{spoken(sentence, kind)} ({prog} --help)") from None
    if unknown:
        options = _option_names(kind)
        close = difflib.get_close_matches(unknown[0], options, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"{prog} has no option {unknown[0]}{hint}; its options are {', '.join(options)}"
        )
    assert isinstance(parsed, kind)
    _check_sizes(parsed)
    return parsed


def _check_sizes(options: object) -> None:
    """Refuses whole numbers that no 64 bits hold, with or without a sign."""
    for item in dataclasses.fields(options):  # type: ignore[arg-type]
        value = getattr(options, item.name)
        if dataclasses.is_dataclass(value):
            _check_sizes(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not -(2**63) <= number < 2**64:
                option = "--" + item.name.replace("_", "-")
                raise UsageError(f"{option} is {number}; expected a number of 64 bits")


def spoken(message: str, kind: type) -> str:
    """A complaint of code about a field of the dataclass, as one about its option.

    Example:
        >>> @dataclasses.dataclass
        ... class Options:
        ...     num_steps: int = 10
        >>> spoken("Options: num_steps must be at least 1, got 0", Options)
        '--num-steps must be at least 1, got 0'
    """
    found = re.match(r"(?:\w+: )?(\w+)\b", message)
    option = "--" + found[1].replace("_", "-") if found else ""
    if found and option in _option_names(kind):
        return option + message[found.end() :]
    return message


# What tyro and Python say about values, and what a user of the command line understands.
_TRANSLATIONS = (
    (r"^Error parsing (?!--)\w+: ", ""),
    (r"^Error parsing (--\S+): ", r"\1: "),
    (r"no type matching (\S+) could be instantiated from (\[.*?\])\..*", r"expected \1, got \2"),
    (r"invalid literal for int\(\) with base 10: (.*)", r"expected a whole number, got \1"),
    (r"could not convert string to float: (.*)", r"expected a number, got \1"),
    (r"Could not find valid parse for arguments: (.*)", r"expected other values than \1"),
    (r"Could not parse arguments (\[.*?\]) into .*", r"expected other values than \1"),
    (r"Missing value for argument '(\S+)'\..*", r"\1 needs a value"),
    (r"Missing from (.*?): (\S+) (.*?) \(required\).*", r"\1 needs \2: \3"),
)


def _plain_words(sentence: str) -> str:
    for pattern, replacement in _TRANSLATIONS:
        sentence = re.sub(pattern, replacement, sentence)
    return sentence


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
    parts = "\n".join(lines)
    first, _, rest = re.sub(r"^[─-]+$", "\0", parts, flags=re.MULTILINE).partition("\0")
    # Without UTF-8 the title is no part of a border, but what stands above the first rule.
    sentence = first if box.startswith("╭") else rest.partition("\0")[0]
    return " ".join(sentence.split()) or "wrong options"
