"""Completion of commands, recipes and options in a shell, by shtab."""

import argparse
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping

__all__ = ["completion_script"]

SHELLS = ("bash", "zsh", "fish")


def completion_script(
    shell: str, commands: Mapping[str, ArgumentParser | Mapping[str, ArgumentParser]]
) -> str:
    """The script with which a shell completes the command ``gencore``.

    Args:
        shell: "bash", "zsh" or "fish".
        commands: name → parser of its options, or the parsers of what its first word may be.

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
    places = root.add_subparsers()
    for name, command in commands.items():
        if isinstance(command, ArgumentParser):
            _put(places, name, command)
        else:
            inner = places.add_parser(name).add_subparsers()
            for word, parser in command.items():
                _put(inner, word, parser)
    for action in _actions(root):
        if action.metavar in ("PATH", "PATH|none", "RUN_DIR"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(root, shell)
    return script


def _put(
    places: "argparse._SubParsersAction[ArgumentParser]", name: str, parser: ArgumentParser
) -> None:
    # Of whole parsers, argparse takes the options only.
    places.add_parser(name, parents=[parser], add_help=False, help=parser.description)


def _actions(parser: ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
