"""The runnable experiments by name.

A recipe is a file of a family's folder here, ``recipes/<family>/<name>.py``, with one class whose
name ends in "Recipe"; a file ``<name>_experiment.py`` beside it trains. It is found by looking, and
imported when it is used. Another package adds its own to the command line with an entry point of
the group ``gencore.recipes``::

    [project.entry-points."gencore.recipes"]
    mine = "my_package.my_recipe:MyRecipe"

Its name there is that of the recipe in commands and in the runs that it makes.
"""

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gencore.train import Recipe

__all__ = ["RECIPES", "RecipeRegistry"]


class RecipeRegistry(Mapping[str, "type[Recipe]"]):
    """Name → recipe class, imported when it is looked up.

    Args:
        places: name → "module:Class".
        group: entry points that add to them.

    Example:
        >>> "ebm" in RECIPES, RECIPES["ebm"].name
        (True, 'ebm')
    """

    def __init__(self, places: Mapping[str, str], group: str | None = None) -> None:
        self._places = dict(places)
        for point in entry_points(group=group) if group else ():
            self._places.setdefault(point.name, point.value)

    def __getitem__(self, name: str) -> "type[Recipe]":
        module, _, class_name = self._places[name].partition(":")
        recipe: type[Recipe] = getattr(import_module(module), class_name)
        recipe.name = name  # what its runs store is what finds it again
        return recipe

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def describe(self, name: str) -> str:
        """First line of the class docstring, read from the source so that nothing is imported."""
        module, _, class_name = self._places[name].partition(":")
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            return ""
        for node in _classes(Path(spec.origin)):
            if node.name == class_name:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""


def _classes(source: Path) -> list[ast.ClassDef]:
    nodes = ast.parse(source.read_text(encoding="utf-8")).body
    return [node for node in nodes if isinstance(node, ast.ClassDef)]


def _find(package: Path) -> dict[str, str]:
    """The recipes in the folders of a package, name → "module:Class"."""
    places = {}
    for experiment in sorted(package.glob("*/*_experiment.py"), key=lambda path: path.name):
        name = experiment.stem.removesuffix("_experiment")
        source = experiment.with_name(f"{name}.py")
        if name in places:
            raise ValueError(f"gencore.recipes: two families have a recipe {name}")
        (recipe,) = (node.name for node in _classes(source) if node.name.endswith("Recipe"))
        places[name] = f"{__name__}.{experiment.parent.name}.{name}:{recipe}"
    return places


RECIPES = RecipeRegistry(_find(Path(__file__).parent), group="gencore.recipes")
