"""Nothing imports from above it on the staircase that CONTRIBUTING.md shows."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gencore

PACKAGE = Path(gencore.__file__).parent
CONTRIBUTING = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"


def steps() -> dict[str, int]:
    """The step of each room, from the top of the table."""
    rows = re.findall(r"^\| (`.*?) \|", CONTRIBUTING.read_text(), re.MULTILINE)
    rooms = [re.findall(r"`(?:gencore/)?(\w+)[/.]", row) for row in rows]
    return {room: step for step, names in enumerate(rooms) for room in names}


def imported(path: Path) -> Iterator[str]:
    """The rooms and modules of the package that a file imports, for its types too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("gencore."))


@cache
def imports() -> dict[str, set[str]]:
    """By room, and by module that is in none."""
    found = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found[room].update(set(imported(path)) - {room})
    return found


def reached(room: str, edges: dict[str, set[str]], rooms: dict[str, int]) -> set[str]:
    """The rooms that one imports from, itself or by modules that are in no room."""
    found, to_see = set(), list(edges[room])
    while to_see:
        name = to_see.pop()
        if name not in found:
            found.add(name)
            to_see += [] if name in rooms else edges.get(name, ())
    return found & rooms.keys()


def test_the_table_names_every_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= steps().keys()


def test_no_room_imports_from_above():
    rooms, edges = steps(), imports()
    assert len(rooms) > 10
    upwards = {
        f"{room} imports {other}"
        for room in rooms.keys() & edges.keys()
        for other in reached(room, edges, rooms)
        if rooms[other] < rooms[room]
    }
    assert not upwards


def test_no_two_rooms_of_a_step_import_each_other():
    rooms, edges = steps(), imports()
    mutual = {
        (room, other)
        for room in rooms.keys() & edges.keys()
        for other in reached(room, edges, rooms) & edges.keys()
        if room in reached(other, edges, rooms)
    }
    assert not mutual
