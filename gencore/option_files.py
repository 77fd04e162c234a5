"""Options from files in JSON or TOML, and from the config that a run leaves in its folder."""

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gencore.option_types import from_plain
from gencore.options import nearest

__all__ = ["read_option_file"]


def read_option_file(path: Path, recipe: str, *kinds: type) -> dict[str, Any]:
    """The fields of dataclasses that a file names, less those that it does not.

    The file is a table of options, named as on the command line without ``--`` or as in Python; or
    a run's ``config.json``, whose fields and settings these are then. A key "recipe" says which
    recipe the file is for.

    Args:
        path: ends in .json or .toml.
        recipe: the recipe that runs.
        kinds: the dataclasses, without a field in common.

    Raises:
        ValueError: the file is no such table, is for another recipe, names an option that there is
            not, or has a value that does not fit.
        OSError: it cannot be read.

    Example:
        >>> import dataclasses, tempfile
        >>> @dataclasses.dataclass
        ... class Options:
        ...     num_steps: int = 10
        >>> path = Path(tempfile.mkdtemp()) / "options.json"
        >>> _ = path.write_text('{"num-steps": 20}')
        >>> read_option_file(path, "ebm", Options)
        {'num_steps': 20}
    """
    table = _read_table(path)
    if table.get("recipe", recipe) != recipe:
        raise ValueError(f"{path} is for the recipe {table['recipe']}, not {recipe}")
    if "recipe" in table and isinstance(table.get("fields"), dict):
        table = _options_of_run(table)
    table.pop("recipe", None)
    hints: dict[str, Any] = {}
    for kind in kinds:
        hints |= get_type_hints(kind)
    names = [name for kind in kinds for name in getattr(kind, "__dataclass_fields__", ())]
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in names or name == "config":
            close = nearest(name, names)
            hint = f" (did you mean {close}?)" if close else ""
            raise ValueError(f"{path}: there is no option {key}{hint}")
        if value == "none" and type(None) in get_args(hints[name]):
            value = None  # as on the command line: TOML has no null
        try:
            values[name] = from_plain(key, value, hints[name])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return values


def _read_table(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".toml"):
        raise ValueError(f"a file of options must end in .json or .toml, got {path}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    text = path.read_text(encoding="utf-8")
    try:
        table = json.loads(text) if path.suffix == ".json" else _from_toml(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} holds no table of options")
    return table


def _from_toml(text: str) -> dict[str, Any]:
    from gencore.extras import training_extra

    with training_extra("reading TOML"):
        toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: dict[str, Any] = toml.loads(text)
    return table


def _options_of_run(config: Mapping[str, Any]) -> dict[str, Any]:
    for part in ("fields", "settings", "data"):
        if not isinstance(config.get(part) or {}, Mapping):
            raise ValueError(f"its {part} are {config[part]!r}; expected a table")
    fields = dict(config["fields"])
    data, source = fields.get("data"), (config.get("data") or {}).get("source")
    if isinstance(data, str) and isinstance(source, str):
        from gencore.train.run_folder import where_data_lie

        fields["data"] = where_data_lie(data, source)
    options = {**fields, **(config.get("settings") or {})}
    if config.get("preset") is not None:
        options["preset"] = config["preset"]
    return options
