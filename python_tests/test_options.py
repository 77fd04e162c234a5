"""Options from dataclasses: what words make of them, what is refused, and what help shows."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from gencore.option_files import read_option_file
from gencore.option_types import from_plain, from_words
from gencore.options import UsageError, option_parser, parse_options, spoken


@dataclass
class Options:
    """What a program can do.

    It can do much.
    """

    run_dir: Path
    """Where to."""

    num_steps: int = 10
    """How often; 100% is num_steps."""

    rate: float = 0.5
    """How fast."""

    kind: Literal["fast", "slow"] = "fast"
    """In which way."""

    size: int | None = None
    """How large."""

    widths: tuple[int, ...] = (4, 4)
    """How wide."""

    betas: tuple[float, float] = (0.9, 0.99)
    """How smooth."""

    loud: bool = False
    """How loud."""

    out: Path | None = field(default=None)
    """Where the result goes."""


def parse(words):
    return parse_options(Options, ["here", *words.split()], "prog")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--num-steps 3", {"num_steps": 3}),
        ("--num_steps=3 --num-steps 4", {"num_steps": 4}),
        ("--rate -1e-3", {"rate": -1e-3}),
        ("--rate -.5 --num-steps -2", {"rate": -0.5, "num_steps": -2}),
        ("--kind slow", {"kind": "slow"}),
        ("--size 3", {"size": 3}),
        ("--size none", {"size": None}),
        ("--widths 1 2 3 --loud", {"widths": (1, 2, 3), "loud": True}),
        ("--widths 7", {"widths": (7,)}),
        ("--betas 0 1", {"betas": (0.0, 1.0)}),
        ("--loud --no-loud", {"loud": False}),
        ("--out a/b=c", {"out": Path("a/b=c")}),
    ],
)
def test_words_become_values(words, expected):
    assert parse(words) == Options(Path("here"), **expected)


def test_a_positional_argument_may_come_last():
    assert parse_options(Options, ["--size", "3", "there"], "prog").run_dir == Path("there")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num-steps", "--num-steps needs a value"),
        ("--num-steps --loud", "--num-steps needs a value"),
        ("--num-steps=", "--num-steps needs a value, got an empty one"),
        ("--num-steps 1.5", "--num-steps: expected a whole number, got '1.5'"),
        ("--num-steps 1" + 30 * "0", "--num-steps: expected a number of 64 bits"),
        ("--rate fast", "--rate: expected a number, got 'fast'"),
        ("--rate inf", "--rate: expected a finite number, got inf"),
        ("--rate -nan", "--rate: expected a finite number, got -nan"),
        ("--kind Fast", "--kind: expected one of 'fast', 'slow', got 'Fast'"),
        ("--size small", "--size: expected a whole number, got 'small'"),
        ("--widths", "--widths needs a value"),
        ("--widths 1 x", "--widths: expected a whole number, got 'x'"),
        ("--betas 1", "--betas: expected 2 arguments"),
        ("--loud=yes", "--loud takes no value, got 'yes'"),
        ("--num-step 3", "prog has no option --num-step (did you mean --num-steps?)"),
        ("--colour 3", "prog has no option --colour; its options are --num-steps, --rate, --kind"),
        ("there", "prog has no option there"),
        # All that is wrong, at once.
        ("--rate x --colour --size y --out", "--out needs a value; prog has no option --colour"),
        ("--rate x --size y", "--rate: expected a number, got 'x'; --size: expected a whole"),
    ],
)
def test_what_is_wrong_is_one_line(words, message):
    with pytest.raises(UsageError) as error:
        parse(words)
    assert str(error.value).startswith(message)
    assert str(error.value).endswith("(prog --help)")
    assert "\n" not in str(error.value)


def test_a_missing_positional_argument_is_named():
    with pytest.raises(UsageError, match=r"^prog needs RUN_DIR: Where to\. \(prog --help\)$"):
        parse_options(Options, ["--size", "3"], "prog")


def test_help_fits_80_columns_and_shows_docstrings_and_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = option_parser({"options": Options}, "prog").format_help()
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for part in (
        "usage: prog RUN_DIR [options]",
        "What a program can do. It can do much.",
        "RUN_DIR Where to.",
        "--num-steps INT How often; 100% is --num-steps. (default: 10)",
        "--kind {fast,slow} In which way. (default: fast)",
        "--size INT|none How large. ",
        "--betas FLOAT FLOAT How smooth. (default: 0.9 0.99)",
        "--loud, --no-loud How loud. (default: no)",
        "--out PATH Where the result goes. ",
    ):
        assert part in flat


def test_complaints_of_code_name_options():
    kinds = (Options,)
    assert spoken("fit: num_steps must be more", *kinds) == "--num-steps must be more"
    assert spoken("Options: size is 3; set run_dir", *kinds) == "--size is 3; set --run-dir"
    # Words of English, and names within paths, stay.
    same = "the size of /tmp/num_steps/a, num_steps.txt"
    assert spoken(same, *kinds) == same


def test_other_types_are_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="cannot have the type"):
        from_words(dict[str, int], ["a"])


def test_a_union_takes_what_fits_first():
    assert from_words(int | float, ["3"]) == 3
    assert from_words(int | float, ["3.5"]) == 3.5
    assert from_words(Literal["auto"] | int, ["auto"]) == "auto"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_plain_numbers_are_finite(value):
    with pytest.raises(ValueError, match="rate is"):
        from_plain("rate", value, float | None)


# Files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"num-steps": 3, "widths": [1, 2], "size": null, "recipe": "toy"}'),
        ("a.toml", 'num_steps = 3\nwidths = [1, 2]\nrecipe = "toy"\n'),
        ("a.toml", 'num_steps = 3\nwidths = [1, 2]\nsize = "none"\n'),
    ],
)
def test_a_file_gives_options(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = read_option_file(tmp_path / name, "toy", Options)
    assert {"size": None, **found} == {"num_steps": 3, "widths": (1, 2), "size": None}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "", "must end in .json or .toml, got {path}"),
        ("a.json", "[1]", "{path} holds no table of options"),
        ("a.json", "{", "{path} cannot be read: "),
        ("a.toml", "num_steps", "{path} cannot be read: "),
        ("a.json", '{"num_step": 3}', "{path}: there is no option num_step (did you mean num_"),
        ("a.json", '{"num-steps": "3"}', "{path}: num-steps is '3'; expected int"),
        ("a.toml", "rate = inf", "{path}: rate is inf; expected float"),
        ("a.toml", "[fields]\nsteps = 3", "{path}: there is no option fields"),
        ("a.json", '{"recipe": "ebm"}', "{path} is for the recipe ebm, not toy"),
        ("a.json", '{"recipe": "toy", "fields": {}, "settings": 3}', "its settings are 3;"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        read_option_file(path, "toy", Options)
    assert message.format(path=path) in str(error.value)


def test_a_config_of_a_run_gives_fields_and_settings(tmp_path):
    path = tmp_path / "config.json"
    config = {"recipe": "toy", "fields": {"num_steps": 3}, "settings": {"size": 7}, "changes": []}
    path.write_text(json.dumps(config))
    assert read_option_file(path, "toy", Options) == {"num_steps": 3, "size": 7}
