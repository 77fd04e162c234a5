"""Completion of commands, recipes and options in a shell, by shtab."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["SHELLS", "Command", "completion_script"]

SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """What can follow a command.

    Attributes:
        parser: of its options.
        values: option, as the parser stores it → what its value may be; None stands for a file.
    """

    parser: ArgumentParser
    values: Mapping[str, Sequence[str] | None] = {}


Commands: TypeAlias = Mapping[str, "Command | Commands"]


def completion_script(shell: str, commands: Commands) -> str:
    """The script with which a shell completes the command ``gencore``.

    Args:
        shell: "bash", "zsh" or "fish".
        commands: word → what follows it: options, or further words.

    Raises:
        ValueError: another shell.
        ModuleNotFoundError: shtab is not installed.
    """
    if shell not in SHELLS:
        raise ValueError(f"there is no completion for {shell}; expected {', '.join(SHELLS)}")
    try:
        import shtab
    except ModuleNotFoundError as error:
        message = "completion needs the package shtab: pip install 'gencore[completion]'"
        raise ModuleNotFoundError(message, name="shtab") from error
    root = ArgumentParser(prog="gencore")
    _add(root, commands, shtab.FILE)
    script: str = shtab.complete(root, shell)
    return script


def _add(parser: ArgumentParser, commands: Commands, files: object) -> None:
    places = parser.add_subparsers()
    for word, command in commands.items():
        if not isinstance(command, Command):
            # shtab needs a description of each.
            _add(places.add_parser(word, help=word, description=word), command, files)
            continue
        text = (command.parser.description or word).partition("\n")[0]
        added = places.add_parser(
            word, parents=[command.parser], add_help=False, help=text, description=text
        )
        for action in added._actions:
            values = command.values.get(action.dest, ())
            if values is None:
                action.complete = files  # type: ignore[attr-defined]
            elif values:
                action.choices = values
