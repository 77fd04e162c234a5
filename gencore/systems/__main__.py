"""``python -m gencore.systems > docs/systems.md`` writes the page of the systems anew."""

from gencore.systems import DOCUMENTS, SYSTEMS, System

__all__ = ["page"]

_COLUMNS = ("id", "system", "source", "family", "code", "methods", "recipe", "acceptance check")


def page() -> str:
    """The text of docs/systems.md.

    Example:
        >>> page().splitlines()[0]
        '# Systems'
    """
    documents = "\n".join(f"- **{letter}** {title}." for letter, title in DOCUMENTS.items())
    table = "\n".join(_row(cells) for cells in (_COLUMNS, ["---"] * len(_COLUMNS)))
    for system in SYSTEMS.values():
        table += "\n" + _row(_cells(system))
    return f"""# Systems

What gencore implements of five documents. The letter of an id is that of the document:

{documents}

A system is listed once its acceptance check stands as tests; they are named below `python_tests`.
`gencore list FAMILY` shows a part of this table, `gencore list --json` all of it for programs.
`python -m gencore.systems > docs/systems.md` writes this page from `gencore/systems/`.

{table}
"""


def _cells(system: System) -> list[str]:
    name = f"{system.name} ({system.notes})" if system.notes else system.name
    return [
        system.id,
        name,
        system.source,
        system.family,
        _code(system.implementations),
        _code(system.capabilities),
        _code([system.recipe] if system.recipe else []),
        _code(system.tests),
    ]


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(names: "list[str] | tuple[str, ...]") -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
