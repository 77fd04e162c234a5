"""Whether the test of a node id is there and runs, read from its source."""

import ast
from collections.abc import Container, Sequence
from pathlib import Path

__all__ = ["find_fault"]

_MARKS = ("skip", "skipif", "xfail")


def find_fault(node_id: str, root: Path) -> str | None:
    """What is wrong with "folder/test_x.py::test_y" or "…::TestClass::test_y"; None if nothing.

    Refused are tests that pytest would not collect, and those that are skipped or expected to fail
    by a mark on them, on their class or on the module, or by a call in them. A module that needs an
    extra (`importorskip`) is not refused.
    """
    file, *path = node_id.split("::")
    source = root / file
    if not source.is_file():
        return f"there is no file {file}"
    if not source.name.startswith("test_") or len(path) not in (1, 2):
        return f"{node_id} is no node id of a test"
    module = ast.parse(source.read_text(encoding="utf-8"))
    named = _named_marks(module)
    kinds: list[type[ast.ClassDef] | type[ast.FunctionDef]] = [ast.ClassDef, ast.FunctionDef]
    scope: ast.Module | ast.ClassDef | ast.FunctionDef = module
    for name, kind in zip(path, kinds[-len(path) :], strict=True):
        prefix = "Test" if kind is ast.ClassDef else "test_"
        body = [*_inherited(scope, module, root), *scope.body]
        found = [n for n in body if isinstance(n, kind) and n.name == name]
        if not found or not name.startswith(prefix):
            return f"{file} has no {name}"
        is_marked = "pytestmark" in _named_marks(scope) or _skips(scope)
        if is_marked or _has_mark(found[-1].decorator_list, named):
            return f"{name} is skipped or expected to fail"
        scope = found[-1]
    if _has_mark(scope.body, named):
        return f"{path[-1]} skips itself or expects to fail"
    return None


def _inherited(scope: ast.AST, module: ast.Module, root: Path) -> list[ast.stmt]:
    """The bodies of a test class's bases that the module imports from the folder testing."""
    bases = {base.id for base in getattr(scope, "bases", ()) if isinstance(base, ast.Name)}
    body: list[ast.stmt] = []
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("testing."):
            names = bases & {alias.name for alias in node.names}
            source = root.joinpath(*node.module.split(".")).with_suffix(".py")
            if names:
                shared = ast.parse(source.read_text(encoding="utf-8")).body
                classes = [n for n in shared if isinstance(n, ast.ClassDef) and n.name in names]
                body += [statement for found in classes for statement in found.body]
    return body


def _named_marks(scope: ast.AST) -> set[str]:
    """The names that a module's or a class's body gives to such marks; `pytestmark` is one."""
    assignments = [node for node in scope.body if isinstance(node, ast.Assign)]
    return {
        target.id
        for node in assignments
        if _has_mark([node.value])
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _skips(scope: ast.AST) -> bool:
    """Whether a body calls `pytest.skip`, perhaps under a condition, as it is imported."""
    return _has_mark([n for n in scope.body if isinstance(n, ast.Expr | ast.If | ast.Try)])


def _has_mark(nodes: Sequence[ast.AST], named: Container[str] = ()) -> bool:
    """Whether `pytest.mark.skip`, `pytest.skip` or the like, or one of the names of such marks, is
    anywhere in the nodes."""
    return any(
        (isinstance(part, ast.Name) and part.id in named)
        or (
            isinstance(part, ast.Attribute)
            and part.attr in _MARKS
            and ast.unparse(part.value) in ("pytest", "pytest.mark")
        )
        for node in nodes
        for part in ast.walk(node)
    )
