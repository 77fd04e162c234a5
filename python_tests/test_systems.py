"""The registry of systems: its entries point at what is there, and its page is up to date."""

import dataclasses
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from testing.node_ids import find_fault

from gencore import cli
from gencore.recipes import RECIPES
from gencore.systems import DOCUMENTS, FAMILIES, SYSTEMS, System, _collect, _families
from gencore.systems.__main__ import page
from gencore.systems.system import resolve

TESTS = Path(__file__).parent
ENTRY = System(
    id="Y99", name="Glow", source="Yan 2022, §9", implementation="gencore.models.Glow", test="t"
)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_an_entry_names_exists(name):
    system = SYSTEMS[name]
    assert system.name
    author, year = re.match(r"(\w+)(?: (\d{4}))?, .", system.source).groups()
    assert DOCUMENTS[name[0]].startswith(f"{author}, ")
    assert year is None or DOCUMENTS[name[0]].endswith(f", {year}")
    assert system.recipe is None or system.recipe in RECIPES
    for path in system.implementations:
        assert path.startswith("gencore.")
        assert callable(resolve(path)), path
    assert [fault for test in system.tests if (fault := find_fault(test, TESTS))] == []
    assert len(set(system.tests)) == len(system.tests)


def test_ids_are_in_the_order_of_the_documents():
    assert list(SYSTEMS) == [system.id for system in SYSTEMS.values()]
    assert list(SYSTEMS) == sorted(SYSTEMS, key=lambda name: ("GMYLB".index(name[0]), name))
    later, earlier = (dataclasses.replace(ENTRY, id=name) for name in ("L01", "Y33"))
    assert list(_collect({"one": [later], "two": [earlier]})) == ["Y33", "L01"]


def test_an_id_is_entered_once():
    with pytest.raises(ValueError, match="Y99 is entered twice, in the families one and two"):
        _collect({"one": [ENTRY], "two": [ENTRY]})


@pytest.mark.parametrize("wrong", ["", "Z01", "Y1", "Y001", "y01"])
def test_ids_are_those_of_documents(wrong):
    with pytest.raises(ValueError, match=f"System: id is '{wrong}'; expected a letter of G, M, Y"):
        dataclasses.replace(ENTRY, id=wrong)


def test_a_family_is_found_by_looking(tmp_path, monkeypatch):
    """Its name is that of the file."""
    package = tmp_path / "systems"
    shutil.copytree(Path(cli.__file__).with_name("systems"), package)
    source = (package / "flows.py").read_text()
    (package / "new.py").write_text(re.sub(r'id="\w\d\d"', 'id="Y99"', source, count=1))
    monkeypatch.setattr("gencore.systems.__path__", [str(package)])
    families = _families(package)
    monkeypatch.delitem(sys.modules, "gencore.systems.new")
    assert list(families) == sorted([*FAMILIES, "new"])
    assert _collect({"new": families["new"]})["Y99"].family == "new"


def test_capabilities_are_the_public_methods_of_the_code():
    assert ENTRY.capabilities == ("log_prob", "sample")
    function = dataclasses.replace(ENTRY, implementation="gencore.metrics.bits_per_dim")
    assert function.capabilities == ()


def test_the_page_is_up_to_date():
    """If not: python -m gencore.systems > docs/systems.md"""
    assert (TESTS.parent / "docs" / "systems.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("test_runs", None),
        ("TestGroup::test_runs", None),
        ("test_no", "test_s.py has no test_no"),
        ("TestGroup::test_no", "test_s.py has no test_no"),
        ("helper", "test_s.py has no helper"),
        ("test_runs[1]", "test_s.py has no test_runs[1]"),
        ("test_skipped", "test_skipped is skipped or expected to fail"),
        ("test_fails_for_one", "test_fails_for_one is skipped or expected to fail"),
        ("TestSkipped::test_runs", "TestSkipped is skipped or expected to fail"),
        ("TestMarked::test_runs", "test_runs is skipped or expected to fail"),
        ("test_skips_itself", "test_skips_itself skips itself or expects to fail"),
        ("test_needs_more", "test_needs_more is skipped or expected to fail"),
        ("TestGroup", "test_s.py has no TestGroup"),
    ],
)
def test_node_ids(tmp_path, name, fault):
    (tmp_path / "test_s.py").write_text(
        "import pytest\n"
        "def helper(): pass\n"
        "@pytest.mark.slow\n"
        "def test_runs(): pass\n"
        "@pytest.mark.skip\n"
        "def test_skipped(): pass\n"
        "@pytest.mark.parametrize('x', [1, pytest.param(2, marks=pytest.mark.xfail)])\n"
        "def test_fails_for_one(x): pass\n"
        "def test_skips_itself():\n    if True: pytest.skip('why')\n"
        "class TestGroup:\n    def test_runs(self): pass\n"
        "@pytest.mark.skipif(True, reason='')\n"
        "class TestSkipped:\n    def test_runs(self): pass\n"
        "class TestMarked:\n    pytestmark = [pytest.mark.xfail]\n    def test_runs(self): pass\n"
        "needs_more = pytest.mark.skipif(True, reason='')\n"
        "@needs_more\n"
        "def test_needs_more(): pass\n"
    )
    assert find_fault(f"test_s.py::{name}", tmp_path) == fault


@pytest.mark.parametrize(
    "line", ["pytestmark = pytest.mark.skip", "if True: pytest.skip('', allow_module_level=True)"]
)
def test_node_ids_of_a_module_that_is_skipped(tmp_path, line):
    (tmp_path / "test_s.py").write_text(f"import pytest\n{line}\ndef test_runs(): pass\n")
    fault = find_fault("test_s.py::test_runs", tmp_path)
    assert fault == "test_runs is skipped or expected to fail"
    assert find_fault("test_t.py::test_runs", tmp_path) == "there is no file test_t.py"


# The command


def test_list_names_the_families(capsys):
    assert cli.main(["list"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith("systems (gencore list FAMILY): ")
    counts = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)", line)}
    assert counts == Counter(system.family for system in SYSTEMS.values())


def test_list_shows_the_systems_of_a_family(capsys):
    assert cli.main(["list", "flows"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "system", "source", "recipe"]
    assert [row.split()[0] for row in rows] == [
        name for name in SYSTEMS if SYSTEMS[name].family == "flows"
    ]
    assert any(re.fullmatch(r"  Y06  Coupling flow +Yan 2022, §2\.2 +toyflow", row) for row in rows)


def test_list_as_json_has_every_field(capsys):
    assert cli.main(["list", "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in objects] == list(SYSTEMS)
    fields = {field.name for field in dataclasses.fields(System)}
    assert all(set(entry) == fields | {"capabilities"} for entry in objects)
    assert next(e for e in objects if e["id"] == "Y06")["capabilities"] == ["log_prob", "sample"]
    assert cli.main(["list", "--json", "flows"]) == 0
    part = json.loads(capsys.readouterr().out)
    assert part == [entry for entry in objects if entry["family"] == "flows"]
