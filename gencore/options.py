"""Command-line options from dataclasses, with complaints of one line.

argparse splits the words; their values are read here, so that one complaint names all that is
wrong, in our words.
"""

import argparse
import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from gencore.option_types import choices, from_words, placeholder, value_count

__all__ = [
    "UsageError",
    "given_options",
    "make",
    "nearest",
    "option_parser",
    "option_values",
    "parse_options",
    "shown_as_options",
    "spoken",
]

T = TypeVar("T")


class UsageError(ValueError):
    """The command line itself is wrong."""


@dataclasses.dataclass(frozen=True)
class _Option:
    """One field of a dataclass as an option or, without a default, as a positional argument."""

    field: str
    hint: Any
    default: Any
    help: str

    @property
    def positional(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def name(self) -> str:
        return self.field.upper() if self.positional else _flag(self.field)


def parse_options(kind: type[T], words: Sequence[str], prog: str) -> T:
    """A dataclass from words such as ``--steps 600``.

    Fields without a default are positional. Fields may have the types of `gencore.option_types`; a
    bool is ``--name`` or ``--no-name``.

    Args:
        kind: the dataclass; the docstrings of its fields are the help.
        words: of the command line.
        prog: the command, for messages.

    Raises:
        UsageError: unknown options or values that do not fit, all in one line.

    Example:
        >>> @dataclasses.dataclass
        ... class Options:
        ...     steps: int = 10
        >>> parse_options(Options, ["--steps", "20"], "prog")
        Options(steps=20)
        >>> parse_options(Options, ["--stepz", "20"], "prog")
        Traceback (most recent call last):
            ...
        gencore.options.UsageError: prog has no option --stepz (did you mean --steps?) (prog --help)
    """
    return make(kind, given_options({"options": kind}, words, prog), prog)


def make(
    kind: type[T],
    values: Mapping[str, Any],
    prog: str,
    build: Callable[..., T] | None = None,
    others: Sequence[type] = (),
) -> T:
    """A dataclass of those of the values that are its own.

    Args:
        kind: the dataclass.
        values: field → value.
        prog: the command, for messages.
        build: what makes it, the class itself if None.
        others: dataclasses whose fields a complaint may name as well.

    Raises:
        UsageError: the values do not fit each other, as the class says.
    """
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    own = {field.name: values[field.name] for field in fields if field.name in values}
    try:
        return (build or kind)(**own)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{spoken(str(error), kind, *others)} ({prog} --help)") from error


def given_options(
    kinds: Mapping[str, type], words: Sequence[str], prog: str, epilog: str = ""
) -> dict[str, Any]:
    """The fields that the words give, of several dataclasses without a field in common.

    ``--help`` prints the help and ends the program.

    Args:
        kinds: heading in the help → dataclass.
        words: of the command line.
        prog: the command, for messages.
        epilog: what stands at the end of the help.

    Raises:
        UsageError: as of `parse_options`.
    """
    options = [option for kind in kinds.values() for option in _options_of(kind)]
    faults: list[str] = []
    words = _check_words(words, options, prog, faults)
    parser = option_parser(kinds, prog, epilog)
    try:
        found, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message} ({prog} --help)") from None
    faults += _unknown_words(unknown, options, prog)
    values: dict[str, Any] = {}
    for option in options:
        given = vars(found).get(option.field)
        if given is None:
            if option.positional and not faults:
                faults.append(f"{prog} needs {option.name}: {option.help}")
        elif option.hint is bool:
            values[option.field] = given
        else:
            try:
                values[option.field] = from_words(option.hint, given)
            except ValueError as error:
                faults.append(f"{option.name}: {error}")
    if faults:
        raise UsageError(f"{'; '.join(faults)} ({prog} --help)")
    return values


def option_parser(
    kinds: Mapping[str, type], prog: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """argparse's parser of the options of several dataclasses, as `given_options` uses it.

    Its results are the words of each option that was given, unchecked.
    """
    options = {heading: _options_of(kind) for heading, kind in kinds.items()}
    places = [option.name for part in options.values() for option in part if option.positional]
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=" ".join([prog, *places, "[options]"]),
        description=_paragraphs(next(iter(kinds.values()))),
        epilog=epilog,
        formatter_class=_Help,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for heading, part in options.items():
        group = parser.add_argument_group(heading)
        for option in part:
            _add(group, option, kinds.values())
    group.add_argument("-h", "--help", action="help", help="Show this help.")
    return parser


def option_values(kinds: Mapping[str, type]) -> dict[str, list[str] | None]:
    """Field → what the words of its value may be, if they are few; None stands for a file."""
    options = [option for kind in kinds.values() for option in _options_of(kind)]
    files = {option.field for option in options if Path in (option.hint, *get_args(option.hint))}
    return {o.field: None if o.field in files else choices(o.hint) for o in options}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that breaks no line within the name of an option."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def _add(group: argparse._ActionsContainer, option: _Option, kinds: Iterable[type]) -> None:
    text = spoken(option.help, *kinds)
    shown = _shown(option.default)
    if not option.positional and shown:
        text = f"{text} (default: {shown})"
    text = text.replace("%", "%%")
    count = value_count(option.hint)
    if option.positional:
        # Words that are missing are our complaint, not argparse's.
        group.add_argument(
            option.field, metavar=option.name, nargs=count, help=text
        ).required = False
    elif option.hint is bool:
        group.add_argument(option.name, action=argparse.BooleanOptionalAction, help=text)
    else:
        group.add_argument(
            option.name,
            dest=option.field,
            nargs=count,
            metavar=(placeholder(option.hint), "") if count == "+" else placeholder(option.hint),
            help=text,
        )


def _check_words(
    words: Sequence[str], options: Iterable[_Option], prog: str, faults: list[str]
) -> list[str]:
    """The words with options spelled as argparse knows them, less options that lack their value,
    which are added to the faults."""
    known = {option.name: option for option in options}
    negative = {f"--no-{name[2:]}" for name, option in known.items() if option.hint is bool}
    places = [option.name for option in known.values() if option.positional]
    left, checked = deque(words), []
    while left:
        word = left.popleft()
        name, equals, value = word.partition("=")
        name = "--" + name[2:].replace("_", "-")
        option = known.get(name)
        if not word:
            # A path would take it for the current folder; it is a variable that a script did not
            # set.
            faults.append(f"{places[0] if places else prog} needs a value, got an empty one")
        elif not word.startswith("--") or not (option or name in negative):
            checked.append(word)
        elif option is None or option.hint is bool:
            if equals:
                faults.append(f"{name} takes no value, got {value!r}")
            checked.append(name)
        elif equals or (left and _is_value(left[0])):
            value = value if equals else left.popleft()
            if value:
                # A number like -1e-3 looks like an option to argparse, unless it is joined.
                joined = value_count(option.hint) == 1
                checked += [f"{name}={value}"] if joined else [name, value]
            else:
                faults.append(f"{name} needs a value, got an empty one")
        else:
            faults.append(f"{name} needs a value")
    return checked


def _is_value(word: str) -> bool:
    """Whether a word after an option is its value, and not the next option."""
    try:
        float(word)
    except ValueError:
        return not word.startswith("-") or word == "-"
    return True


def _unknown_words(words: Sequence[str], options: Sequence[_Option], prog: str) -> list[str]:
    """Complaints about words that no option takes."""
    names = [option.name for option in options if not option.positional]
    unknown = [word.partition("=")[0] for word in words if word.startswith("-")] or words[:1]
    faults = []
    for word in unknown:
        if close := nearest(word, names):
            faults.append(f"{prog} has no option {word} (did you mean {close}?)")
        else:
            faults.append(f"{prog} has no option {word}; its options are {', '.join(names)}")
    return faults


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if there is one.

    Example:
        >>> nearest("--stepz", ["--steps", "--seed"])
        '--steps'
    """
    bare = {name.lstrip("-"): name for name in names}
    close = difflib.get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.7)
    return bare[close[0]] if close else None


def shown_as_options(fields: Mapping[str, Any]) -> list[str]:
    """Fields and their values as options of the command line.

    Example:
        >>> shown_as_options({"hidden_widths": (64, 64), "amsgrad": False})
        ['--hidden-widths 64 64', '--no-amsgrad']
    """
    shown = []
    for name, value in fields.items():
        if isinstance(value, bool):
            shown.append(_flag(name) if value else _flag(f"no_{name}"))
        else:
            shown.append(f"{_flag(name)} {'none' if value is None else _shown(value)}")
    return shown


def _shown(value: Any) -> str:
    """A default in the help; nothing for None, whose meaning the help says."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value)


def spoken(message: str, *kinds: type) -> str:
    """A complaint of code about fields of the dataclasses, as one about their options.

    The field that the complaint begins with becomes an option, and elsewhere those whose names are
    no words of English.

    Example:
        >>> @dataclasses.dataclass
        ... class Options:
        ...     steps: int = 10
        ...     num_steps: int = 10
        >>> spoken("Options: steps must be at least num_steps=3 steps, got 0", Options)
        '--steps must be at least --num-steps=3 steps, got 0'
    """
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    owners = "|".join(kind.__name__ for kind in kinds)
    message = re.sub(rf"^(?:{owners}|fit): ", "", message)

    def replace(found: re.Match[str]) -> str:
        name = found[0]
        is_field = name in names and ("_" in name or found.start() == 0)
        return _flag(name) if is_field else name

    # Not within paths or names of files.
    return re.sub(r"(?<![\w/\\.-])[a-z]\w*(?![\w/\\-]|\.\w)", replace, message)


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _options_of(kind: type) -> list[_Option]:
    hints, helps = get_type_hints(kind), _docstrings_of_fields(kind)
    options = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        options.append(_Option(field.name, hints[field.name], default, helps.get(field.name, "")))
    return options


def _docstrings_of_fields(kind: type) -> dict[str, str]:
    """Field → the docstring below it, of a class and what it is derived from."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):  # built in, or typed at a prompt
            continue
        (node,) = ast.parse(source).body
        body = node.body if isinstance(node, ast.ClassDef) else []
        for item, below in pairwise(body):
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[item.target.id] = " ".join(below.value.value.split())
    return found


def _paragraphs(kind: type) -> str:
    """The docstring of a class, each paragraph filled."""
    text = inspect.cleandoc(kind.__doc__ or "")
    if text.startswith(f"{kind.__name__}("):  # dataclass wrote it
        return ""
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 78) for part in text.split("\n\n"))
